//! The forms in which objects are sent: whole, or their metadata only.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::kinds::Resource;
use super::store::Object;

/// What the `Accept` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The objects.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
}

const META: &str = "meta.k8s.io/v1";

#[derive(Deserialize)]
struct OnlyMetadata<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

impl Form {
    /// From the header's text; `None` for forms that are not served.
    #[must_use]
    pub fn of(accept: &str) -> Option<Self> {
        accept.split(',').find_map(|choice| {
            let mut parts = choice.split(';').map(str::trim);
            let json = matches!(parts.next(), Some("" | "*/*" | "application/*" | "application/json"));
            match parts.find_map(|part| part.strip_prefix("as=")) {
                _ if !json => None,
                None => Some(Self::Whole),
                Some("PartialObjectMetadata" | "PartialObjectMetadataList") => Some(Self::Metadata),
                Some(_) => None,
            }
        })
    }

    /// Kind and API version of a list in this form.
    #[must_use]
    pub fn list_kind(self, resource: Resource) -> (String, &'static str) {
        match self {
            Self::Whole => (format!("{}List", resource.kind()), resource.api_version()),
            Self::Metadata => ("PartialObjectMetadataList".to_owned(), META),
        }
    }

    /// Appends an object as it stands in a list: whole objects have no kind there.
    pub fn item(self, object: &Object, out: &mut Vec<u8>) {
        match self {
            Self::Whole => object.content.render(object.revision, out),
            Self::Metadata => self.object(object, out),
        }
    }

    /// Appends an object as it stands alone and in watches.
    pub fn object(self, object: &Object, out: &mut Vec<u8>) {
        let resource = object.resource;
        let mut text = Vec::new();
        object.content.render(object.revision, &mut text);
        match self {
            Self::Whole => {
                let head =
                    format!(r#"{{"kind":"{}","apiVersion":"{}","#, resource.kind(), resource.api_version());
                out.extend_from_slice(head.as_bytes());
                out.extend_from_slice(text.strip_prefix(b"{").unwrap_or(&text));
            }
            Self::Metadata => {
                let metadata = serde_json::from_slice::<OnlyMetadata<'_>>(&text);
                let metadata = metadata.map_or("{}", |object| object.metadata.get());
                let text = format!(
                    r#"{{"kind":"PartialObjectMetadata","apiVersion":"{META}","metadata":{metadata}}}"#
                );
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// The object of a bookmark, which holds a revision and nothing else.
    #[must_use]
    pub fn bookmark(self, resource: Resource, revision: u64, initial_events_end: bool) -> String {
        let annotations =
            if initial_events_end { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
        let metadata = format!(r#""metadata":{{"resourceVersion":"{revision}"{annotations}}}"#);
        let (kind, api_version, rest) = match (self, resource) {
            (Self::Metadata, _) => ("PartialObjectMetadata", META, ""),
            (Self::Whole, Resource::Pods) => ("Pod", "v1", r#","spec":{"containers":null},"status":{}"#),
            (Self::Whole, Resource::Events) => (
                "Event",
                "v1",
                r#","involvedObject":{},"source":{},"firstTimestamp":null,"lastTimestamp":null,"eventTime":null,"reportingComponent":"","reportingInstance":"""#,
            ),
            (Self::Whole, resource) => (resource.kind(), resource.api_version(), ""),
        };
        format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}",{metadata}{rest}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::Form;

    #[test]
    fn the_accept_header_chooses_the_form() {
        let cases = [
            ("", Some(Form::Whole)),
            ("*/*", Some(Form::Whole)),
            ("application/json", Some(Form::Whole)),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", Some(Form::Metadata)),
            ("application/vnd.kubernetes.protobuf, application/json", Some(Form::Whole)),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", None),
            ("application/vnd.kubernetes.protobuf", None),
        ];
        for (accept, expected) in cases {
            assert_eq!(Form::of(accept), expected, "{accept}");
        }
    }
}
