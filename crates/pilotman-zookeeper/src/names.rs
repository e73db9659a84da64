//! How names become names of nodes.

use pilotman_core::{Error, NameRule, Result};
use sha2::{Digest, Sha512};

use crate::path;

/// The longest plain name where names must not collide.
const LONGEST_STRICT: usize = 200;
/// What names that were hashed begin with there.
const HASHED: &str = "h~";

/// The name of the node that stands for the lock, in this directory.
pub(crate) fn node_name(name: &str, directory: &str, rule: NameRule) -> Result<String> {
    match rule {
        NameRule::Strict => Ok(strict(name)),
        NameRule::Exact => match converted(name, directory == "/") == name {
            true => Ok(name.to_owned()),
            false => Err(Error::invalid_name("ZooKeeper can't have a node of this name")
                .with_advice("let names be mapped (names=dotnet or names=strict)")),
        },
        _ => Ok(dotnet(name, directory == "/")),
    }
}

/// As the .NET library does: what can be a node's name is one, and the rest is made readable with a hash behind it.
fn dotnet(name: &str, is_root: bool) -> String {
    let converted = converted(name, is_root);
    if converted == name {
        return converted;
    }
    format!("{converted}{}", base64(&Sha512::digest(name.as_bytes())).replace('/', "_"))
}

fn converted(name: &str, is_root: bool) -> String {
    match name {
        "" => "EMPTY".to_owned(),
        "." | ".." => format!("{name}_"),
        "zookeeper" if is_root => format!("{name}_"),
        _ => {
            let safe =
                |unit: u16| if unit == u16::from(b'/') || path::is_refused(unit) { u16::from(b'_') } else { unit };
            // Surrogates, alone or in pairs, are refused: what is left is text.
            String::from_utf16_lossy(&name.encode_utf16().map(safe).collect::<Vec<_>>())
        }
    }
}

/// Never two names in one: plain names are themselves, unless they look like a hash; the others are their hash.
fn strict(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:@+=".contains(c);
    let is_reserved = matches!(name, "" | "." | ".." | "zookeeper") || name.starts_with(HASHED);
    if name.len() <= LONGEST_STRICT && !is_reserved && name.chars().all(is_plain) {
        return name.to_owned();
    }
    let hash: String = Sha512::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{HASHED}{hash}")
}

/// The logical name of a node, where it is that name.
pub(crate) fn logical(node: &str, directory: &str, rule: NameRule) -> Option<String> {
    // A name that was hashed is mapped anew to something else, except by an attack on the hash.
    node_name(node, directory, rule).ok().filter(|mapped| mapped == node)
}

pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(group.get(at).copied().unwrap_or(0)));
        for digit in 0..4 {
            text.push(match digit <= group.len() {
                true => char::from(ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize]),
                false => '=',
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_mapped_as_the_dotnet_library_maps_them() {
        for (directory, name, node) in [
            ("/", "abc", "abc"),
            ("/xyz/foo", "bar", "bar"),
            ("/", "...", "..."),
            ("/", "", "EMPTYz4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg_SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="),
            ("/", "/", "_XIbwNE7SSUJciq0_Jytyos4P84h5HzFJfq8lf6cmKUh_qv1_0n6w3WNV1VCeLz+vdnEQFc2SB9JI1VD96hUnTw=="),
            ("/", "a/", "a__H_H9kmjf3WHGaL30_9h_RNn+GipsxwkovtbOR9nXFUa9lT++YHfmM7FomA2RoilE23u5yCsImr8ImvgukZ3lQ=="),
            ("/bar", "\0", "_uCRNAomB1pOve0Vq+O+kytY9KC4Z_xSULCRuUNk1HSJwSoAqccNYC2Nw3kzrKTwySoQjNCVX1OXDhDjw42kQ7g=="),
            ("/a.a", ".", "._C2EkHXwXvLsbrucJTRS3xFHv7Mf_y9klmKDxPTE8yevCoH5h8Ae69Y+_lP+ahpW91crnzgO78elOk2E6APJfIQ=="),
            (
                "/b..b/a",
                "..",
                ".._Rh_NqllQfVidZsBWJatUTHt1u_RuBCeYLhNba59jtMe0u1rD7QNtp2QKxdN3Ohz1E1VnJ_yfFMevOUWeSrtxxw==",
            ),
            (
                "/a/b",
                "/..",
                "_..p0p_PzMVsjkHpwCrL63ktSqk0bLNJX9_X+7BtDMfHWr5usgqZ3n5VVI3FSGJ0YPNrps_Pf7f9yxeCzz+AiD0sw==",
            ),
            (
                "/",
                "zookeeper",
                "zookeeper_yX0zkYBzsEZ1VDADNUx54LUSt9VL9M9lOPoez38tnk4FrBtllVz+ksFllir7N2yla_wy22pIOnbpcfRkcVXBag==",
            ),
            ("/", "zooKeeper", "zooKeeper"),
            ("/a", "zookeeper", "zookeeper"),
            (
                "/",
                "\u{0}\u{7f}\u{f8ff}\u{ffff}",
                "____7A++E8vPxbYKJmhCX1bUTCwjqJqW1POHfCeBk62R9hqB0Fd_uTUBIpv9mssG7K68FHZ_7wJ70UNRKsVH8CrngA==",
            ),
        ] {
            assert_eq!(node_name(name, directory, NameRule::DotNet).unwrap(), node, "{directory} {name:?}");
        }
    }

    #[test]
    fn strict_names_are_plain_or_hashed() {
        assert_eq!(strict("invoice:42"), "invoice:42");
        for odd in ["", ".", "..", "zookeeper", "a/b", "ä", "h~0", &"x".repeat(201)] {
            let node = strict(odd);
            assert!(node.starts_with(HASHED) && node.len() == HASHED.len() + 128, "{odd}: {node}");
        }
        assert_eq!(logical("invoice:42", "/", NameRule::Strict).as_deref(), Some("invoice:42"));
        assert_eq!(logical(&strict("a/b"), "/", NameRule::Strict), None);
    }

    #[test]
    fn exact_names_are_nodes_or_refused() {
        assert_eq!(node_name("a b", "/", NameRule::Exact).unwrap(), "a b");
        assert_eq!(node_name("zookeeper", "/x", NameRule::Exact).unwrap(), "zookeeper");
        for bad in ["", ".", "..", "a/b", "a\0", "zookeeper"] {
            assert!(node_name(bad, "/", NameRule::Exact).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_name_is_the_path_is_one(name in any::<String>(), root in any::<bool>()) {
            let directory = if root { "/" } else { "/a" };
            for rule in [NameRule::DotNet, NameRule::Strict] {
                let path = path::child(directory, &node_name(&name, directory, rule).unwrap());
                prop_assert!(path::check(&path).is_ok(), "{path:?}");
                prop_assert_eq!(path::parent(&path), Some(directory));
            }
        }
    }
}
