//! Makes `engine/base/sync.rs` use shuttle's types. Cells aren't recycled, so that a late use is seen by a sanitizer.
fn main() {
    println!("cargo:rustc-cfg=ensue_shuttle");
    println!("cargo:rustc-cfg=ensue_no_recycling");
    println!("cargo:rustc-check-cfg=cfg(ensue_shuttle, ensue_no_recycling)");
}
