//! Has the programs need libc alone. Rust's library asks for libgcc_s, which walks the stack for a backtrace; gcc has the same code as an archive.

use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let of_target = |name: &str| env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let dynamic = !of_target("FEATURE").split(',').any(|feature| feature == "crt-static");
    if of_target("OS") == "linux" && of_target("ENV") == "gnu" && dynamic && linker_has("libgcc_eh.a") {
        // A linker script. What a build script names is searched before what the linker knows by itself.
        let directory = env::var("OUT_DIR").map_err(io::Error::other)?;
        fs::write(format!("{directory}/libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n")?;
        println!("cargo::rustc-link-search=native={directory}");
    }
    Ok(())
}

/// Whether the linker, which is a C compiler unless somebody has set another one, finds this file. Without it all stays as Rust has it.
fn linker_has(file: &str) -> bool {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let answer = Command::new(linker).arg(format!("-print-file-name={file}")).output();
    answer.is_ok_and(|output| output.stdout.starts_with(b"/"))
}
