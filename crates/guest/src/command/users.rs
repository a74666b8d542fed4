//! The image's users: `/etc/passwd` and `/etc/group` are read here, without the C library's name services.

use super::CommandFailure;

/// Who a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The first group.
    pub gid: u32,
    /// All its groups. The first one is among them, as with Docker and podman: else a file that its own group may not read could be
    /// read.
    pub groups: Vec<u32>,
    /// The home directory.
    pub home: String,
}

/// A line of `/etc/passwd`.
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid, _) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next());
        let home = fields.next().unwrap_or_default();
        Some(User { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some(Group { name, gid: gid.parse().ok()?, members: fields.next().unwrap_or_default() })
    })
}

/// Finds a user as Docker and podman do: `name` or `uid`, optionally `:group` or `:gid`. A number without a line is
/// that number with group 0. The groups of a user's line in `/etc/group` count only if no group is given.
pub fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<Identity, CommandFailure> {
    let (user, group_wanted) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (wanted, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let known = users(passwd)
        .find(|known| known.name == user)
        .or_else(|| users(passwd).find(|known| Some(known.uid) == number));
    let mut identity = match (&known, number) {
        (Some(known), _) => Identity {
            uid: known.uid,
            gid: known.gid,
            groups: Vec::new(),
            home: known.home.to_owned(),
        },
        (None, Some(uid)) => Identity { uid, gid: 0, groups: Vec::new(), home: String::new() },
        (None, None) => {
            return Err(CommandFailure::not_executable(format!(
                "the image has no user {user:?} in /etc/passwd: give a number, or a user that it has"
            )));
        }
    };
    if let Some(wanted) = group_wanted {
        let number = wanted.parse::<u32>().ok();
        let found =
            groups(group).find(|known| known.name == wanted).map(|known| known.gid).or(number);
        identity.gid = found.ok_or_else(|| {
            CommandFailure::not_executable(format!(
                "the image has no group {wanted:?} in /etc/group: give a number, or a group that it has"
            ))
        })?;
    } else if let Some(known) = known {
        let member = |group: &Group<'_>| group.members.split(',').any(|name| name == known.name);
        identity.groups = groups(group).filter(member).map(|group| group.gid).collect();
    }
    identity.groups.retain(|gid| *gid != identity.gid);
    identity.groups.insert(0, identity.gid);
    if identity.home.is_empty() {
        identity.home = "/".to_owned();
    }
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\n\
        12:x:77:78::/odd:\nx:x:-1:0::/:\nbare:x:5:6\n";
    const GROUP: &str =
        "root:x:0:\nvideo:x:44:app,root\nrender:x:105:other,app\napp:x:1001:\nbad:x\n";

    fn of(wanted: &str) -> (u32, u32, Vec<u32>, String) {
        let found = resolve(wanted, PASSWD, GROUP).unwrap();
        (found.uid, found.gid, found.groups, found.home)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(of(""), (0, 0, vec![0, 44], "/root".into()));
        assert_eq!(of("app"), (1000, 1001, vec![1001, 44, 105], "/home/app".into()));
        assert_eq!(of("1000"), (1000, 1001, vec![1001, 44, 105], "/home/app".into()));
        assert_eq!(of("app:video"), (1000, 44, vec![44], "/home/app".into()));
        assert_eq!(of("app:"), (1000, 1001, vec![1001, 44, 105], "/home/app".into()));
        assert_eq!(of(":render"), (0, 105, vec![105], "/root".into()));
        assert_eq!(of("4242"), (4242, 0, vec![0], "/".into()));
        assert_eq!(of("4242:4343"), (4242, 4343, vec![4343], "/".into()));
        // A name that is a number counts as the name.
        assert_eq!(of("12"), (77, 78, vec![78], "/odd".into()));
        assert_eq!(of("bare"), (5, 6, vec![6], "/".into()));
    }

    #[test]
    fn unknown_users_and_groups_are_named() {
        for (wanted, named) in [("who", "\"who\""), ("-1", "\"-1\""), ("app:what", "\"what\"")] {
            let failure = resolve(wanted, PASSWD, GROUP).unwrap_err();
            assert!(failure.code == 126 && failure.message.contains(named), "{failure:?}");
        }
    }
}
