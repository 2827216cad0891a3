//! Private temporary folders.

use std::io;
use std::path::Path;

use tempfile::TempDir;

/// Creates a folder that only this user can access and that is removed when it's dropped: results and logs may be
/// confidential, and other users can read the system's directory for temporary files.
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
    fn other_users_have_no_access() {
        let folder = private("a-prefix-", &std::env::temp_dir()).unwrap();
        let name = folder.path().file_name().unwrap();
        assert!(name.to_str().unwrap().starts_with("a-prefix-"));
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
