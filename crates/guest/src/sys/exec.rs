//! Becoming another program, without the C library's help: its `execvp` starts a shell for a file without a format.

use std::ffi::{CStr, CString};
use std::io;
use std::ptr;

/// Becomes another program. It returns only if that fails.
pub fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // Rust ignores it from the start; programs expect it to end them.
    // SAFETY: SIG_DFL is a valid disposition, and no other code of this process depends on the signal.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: all three are valid: a string that ends with zero, and two lists of such strings that end with null. They
    // live until the call returns.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}
