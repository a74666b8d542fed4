//! Random inventories, including impossible ones.

use model::{Address, Class, Detail, Function, Inventory, Link};
use proptest::prelude::*;

/// Functions with any texts, paths, groups and links.
pub fn inventory() -> impl Strategy<Value = Inventory> {
    let address = (0u8..3, 0u8..3, 0u8..3)
        .prop_map(|(bus, device, function)| Address::new(0, bus, device, function).unwrap());
    let link = prop::option::of(any::<(u16, u8, u16, u8)>().prop_map(
        |(speed, width, max_speed, max_width)| Link { speed, width, max_speed, max_width },
    ));
    let function = (
        address.clone(),
        prop::collection::vec(address.clone(), 0..8),
        prop::option::of(address),
        prop::option::of(any::<u32>()),
        prop::sample::select(vec![
            0x06_0400, 0x03_0000, 0x02_0000, 0x06_8000, 0x06_0000, 0x04_0300,
        ]),
        any::<String>(),
        link,
    );
    let function =
        function.prop_map(|(address, path, physical_function, number, class, text, link)| {
            Function {
                class: Class(class),
                path,
                physical_function,
                numa_node: number.map(|number| number % 3),
                iommu_group: number,
                vendor_name: Some(text.clone()),
                device_name: Some(text.clone()),
                driver: Some(text),
                detail: Some(Box::new(Detail { link, ..Detail::default() })),
                ..Function::unknown(address)
            }
        });
    prop::collection::vec(function, 0..24).prop_map(|functions| Inventory {
        functions: functions.into_iter().map(|function| (function.address, function)).collect(),
        ..Inventory::default()
    })
}
