//! What a machine from a container image says: the result record on its disk, and the frames of its agent. The guest
//! can say anything. Also what the agent reads, although only the host writes it.

use std::io;

use guest_protocol::disk::{
    HEADER_BYTES, RESULT_BYTES, config_length, decode_config, decode_result,
};
use guest_protocol::message::{CopyOut, ExecRequest, StatRequest, ToGuest, read_message};
use guest_protocol::{Client, ProtocolError, is_inner_path};

use crate::{Kind, Target};

pub const TARGET: Target = Target {
    name: "guest",
    reads: "the result and the agent of a machine from a container image",
    read,
    words: &[
        "handover\u{1}\u{0}\u{0}\u{0}",
        "hndresul",
        "\u{3}\u{0}\u{0}\u{0}",
        "{\"protocol\":1,\"version\":\"\",\"state\":\"starting\"}",
        "{\"code\":\"busy\",\"message\":\"\"}",
        "{\"exit_code\":0}",
        "{\"path\":\"a\",\"kind\":{\"file\":{\"size\":3}},\"mode\":0,\"uid\":0,\"gid\":0,\"modified\":0}",
        "\"directory\"",
        "{\"link\":{\"target\":\"..\"}}",
        "../",
    ],
    longest: 1 << 15,
};

fn read(bytes: &[u8]) -> Kind {
    let kind = of(&result(bytes)).and(usize::from(config(bytes).is_ok()));
    let kind = kind.with(of(&requests(bytes)));
    let begin = || Client::begin(bytes, io::sink(), "token");
    let mut client = match begin() {
        Ok(client) => client,
        Err(error) => return kind.with(of_error(&error)),
    };
    let stat = StatRequest { path: "/".to_owned(), follow_links: false };
    let kind = kind.with(of(&client.state().map(|_| 0)));
    let kind = kind.with(of(&client.stat(&stat).map(|_| 0)));
    let kind = kind.with(of(&begin().and_then(|client| {
        let mut output = 0;
        client.run(&ExecRequest::default(), b"", |_| output += 1).map(|_| output)
    })));
    kind.with(of(&begin().and_then(copied)))
}

/// Everything that is copied stays below the destination, and has the announced size.
fn copied(mut client: Client<&[u8], io::Sink>) -> Result<usize, ProtocolError> {
    let mut entries = 0;
    let asked = CopyOut { path: "/".to_owned(), follow_links: false };
    client.copy_out::<ProtocolError>(&asked, |entry, contents| {
        assert!(is_inner_path(&entry.path), "{:?}", entry.path);
        let mut data = Vec::new();
        contents.read_to_end(&mut data)?;
        entries += 1;
        Ok(())
    })?;
    Ok(entries)
}

fn result(bytes: &[u8]) -> Result<usize, ProtocolError> {
    let mut record = [0; RESULT_BYTES];
    record.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    decode_result(&record).map(|result| usize::from(result.is_some()))
}

fn config(bytes: &[u8]) -> Result<usize, ProtocolError> {
    let (header, rest) =
        bytes.split_first_chunk::<HEADER_BYTES>().ok_or(ProtocolError::CutOff("the disk"))?;
    let length = config_length(header)?;
    decode_config(rest.get(..length).unwrap_or(rest)).map(|config| config.argv.len())
}

fn requests(mut bytes: &[u8]) -> Result<usize, ProtocolError> {
    let mut count = 0;
    while read_message::<ToGuest>(&mut bytes)?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn of(answer: &Result<usize, ProtocolError>) -> Kind {
    match answer {
        Ok(count) => Kind::of("good").and(*count),
        Err(error) => of_error(error),
    }
}

fn of_error(error: &ProtocolError) -> Kind {
    Kind::of(error)
}
