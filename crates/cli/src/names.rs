//! Names of instances, for showing them instead of ids.

use std::collections::BTreeMap;

use api::Instance;
use api::client::Client;

/// Names by id.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// The names of all instances; none if they cannot be read.
    pub async fn of_instances(client: &Client) -> Self {
        client
            .get("/instances")
            .await
            .map(|all: Vec<Instance>| Self::instances(all))
            .unwrap_or_default()
    }

    /// The names of these instances.
    pub fn instances(all: Vec<Instance>) -> Self {
        Self(all.into_iter().map(|one| (one.id, one.name)).collect())
    }

    /// The name with this id, or the id if it has none.
    pub fn name<'a>(&'a self, id: &'a str) -> &'a str {
        self.0.get(id).map_or(id, String::as_str)
    }

    /// An owner `KIND/ID`, with the name of an instance.
    pub fn owner(&self, owner: &str) -> String {
        match owner.split_once('/') {
            Some(("instance", id)) => format!("instance/{}", self.name(id)),
            _ => owner.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_instances_become_names() {
        let names = Names([("7".to_owned(), "web".to_owned())].into());
        assert_eq!(names.owner("instance/7"), "instance/web");
        assert_eq!(names.owner("instance/8"), "instance/8");
        assert_eq!(names.owner("job/7"), "job/7");
    }
}
