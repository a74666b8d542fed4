//! The kernel of a fake host: FIFOs are the files of the driver core, threads are the driver core. A writer of a FIFO
//! without a reader hangs, like an unbind that waits for a driver.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use super::Fake;

impl Fake {
    /// Makes `drivers_probe` and each driver's `bind` and `unbind` work like the kernel's. The driver of a function
    /// without a `driver_override` is `native`. The threads end with the test.
    pub fn animate(&self, drivers: &[&str], native: &'static str) {
        self.fifo("sys/bus/pci/drivers_probe");
        let root = self.root().to_owned();
        serve(self.path("sys/bus/pci/drivers_probe"), move |address| {
            let path = root.join(format!("sys/bus/pci/devices/{address}"));
            if path.join("driver").exists() {
                return;
            }
            let wanted = fs::read_to_string(path.join("driver_override")).unwrap_or_default();
            let wanted = Some(wanted.trim()).filter(|w| !w.is_empty() && *w != "(null)");
            set_driver(&root, address, Some(wanted.unwrap_or(native)));
        });
        for driver in drivers {
            let path = format!("sys/bus/pci/drivers/{driver}");
            self.fifo(&format!("{path}/unbind")).fifo(&format!("{path}/bind"));
            let root = self.root().to_owned();
            serve(self.path(&format!("{path}/unbind")), move |address| {
                set_driver(&root, address, None);
            });
            // The fake probe takes a moment, in which the function is bound by name.
            let (root, name) = (self.root().to_owned(), (*driver).to_owned());
            serve(self.path(&format!("{path}/bind")), move |address| {
                set_driver(&root, address, Some(&name));
            });
        }
    }
}

/// Calls `act` with everything that is written to a FIFO.
pub fn serve(fifo: PathBuf, act: impl Fn(&str) + Send + 'static) {
    thread::spawn(move || {
        while let Ok(text) = fs::read_to_string(&fifo) {
            act(text.trim());
        }
    });
}

/// Changes the `driver` link of a function atomically.
pub fn set_driver(root: &Path, address: &str, driver: Option<&str>) {
    let device = root.join(format!("sys/bus/pci/devices/{address}"));
    let Some(driver) = driver else {
        let _ = fs::remove_file(device.join("driver"));
        return;
    };
    fs::create_dir_all(root.join(format!("sys/bus/pci/drivers/{driver}"))).unwrap();
    let depth = fs::read_link(&device).unwrap().components().count();
    let up = "../".repeat(depth - 2);
    let new = device.join(format!("new-{:?}", thread::current().id()));
    symlink(format!("{up}bus/pci/drivers/{driver}"), &new).unwrap();
    fs::rename(new, device.join("driver")).unwrap();
}
