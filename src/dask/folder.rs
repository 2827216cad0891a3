//! Folders for what is on disk for a while.

use std::io;
use std::path::Path;

use tempfile::TempDir;

/// A new folder, which goes when it's dropped. What is in it is no other user's business.
pub(super) fn private(prefix: &str, within: &Path) -> io::Result<TempDir> {
    let mut options = tempfile::Builder::new();
    options.prefix(prefix);
    #[cfg(unix)]
    options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    options.tempdir_in(within)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn nobody_else_can_look_into_it() {
        let folder = private("a-prefix-", &std::env::temp_dir()).unwrap();
        let name = folder.path().file_name().unwrap();
        assert!(name.to_str().unwrap().starts_with("a-prefix-"));
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
