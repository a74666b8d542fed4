//! What a claim requests, as words and as JSON; and the words in it: owners, addresses, ids, sizes, names.

use api::CreateClaim;
use model::choose::Want;
use model::{Address, Class, Id, Mac, Owner};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "claim_words",
    reads: "requests for devices, as words and as JSON",
    read,
    words: &[
        "2xgpu",
        "gpu,node=0",
        "10de:20b0",
        "4xvf@nic0,vlan=100",
        "profile=L40S-1Q",
        "mdev=",
        "0000:01:00.0",
        "vf@",
        ",mac=52:54:00:00:00:01",
        ",qos=7",
        ",trust=on",
        ",spoofchk=off",
        ",max_tx_rate=100",
        "@",
        "x",
        "pod/web-1",
        "4294967296x",
        "{\"count\":2,\"any\":{\"kind\":\"gpu\"}}",
        "{\"owner\":\"pod/a\",\"wants\":[\"gpu\"]}",
        "11111111-2222-4333-8444-555555555555",
    ],
    longest: 4096,
};

fn read(bytes: &[u8]) -> Kind {
    let text = String::from_utf8_lossy(bytes);
    let text = text.as_ref();
    words(text);
    let wanted = text.parse::<Want>();
    if let Ok(want) = &wanted {
        assert!(want.count > 0, "{want:?}");
        again(want);
    }
    if let Ok(want) = serde_json::from_str::<Want>(text) {
        again(&want);
    }
    let claim = serde_json::from_str::<CreateClaim>(text).map(|claim| {
        let wants = claim.wants.into_iter().map(service::claims::want);
        wants.map(|want| want.map_or(0, |want| want.count.min(2))).sum::<u32>()
    });
    let shape = wanted.map(|want| format!("{:?}", want.kind)).map_err(|refusal| refusal.message);
    Kind::of_result(&shape).with(Kind::of_result(&claim))
}

fn again(want: &Want) {
    let text = serde_json::to_string(want).unwrap_or_default();
    assert_eq!(serde_json::from_str::<Want>(&text).ok().as_ref(), Some(want), "{text}");
}

/// What is shown of a word is read as the same word.
fn words(text: &str) {
    macro_rules! same {
        ($($kind:ty),+) => {
            $(if let Ok(value) = text.parse::<$kind>() {
                assert_eq!(value.to_string().parse::<$kind>().ok(), Some(value.clone()), "{text:?}");
            })+
        };
    }
    same!(Address, Id, Class, Mac, Owner, model::Kind);
    if let Ok(size) = model::parse_size(text) {
        assert_eq!(model::parse_size(&model::format_size(size)).ok(), Some(size), "{text:?}");
    }
    for entry in model::boot_list::entries(text) {
        assert_eq!(model::boot_list::entries(&entry.to_string()), [entry]);
    }
    for check in [model::check_device_name, model::check_image_name, model::check_instance_name] {
        if check(text).is_ok() {
            assert!(
                !text.contains(char::is_control) && text.split('/').all(|part| part != ".."),
                "{text:?} is a name"
            );
        }
    }
}
