//! Field selectors: comparisons of known fields, joined by commas, as the API server takes them.

use super::kinds::Resource;
use super::status::ApiError;
use super::store::Object;

/// A conjunction of comparisons; empty selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    equal: bool,
    value: String,
}

impl Selector {
    /// Reads a selector of a resource.
    ///
    /// # Errors
    /// 400, as the API server answers it, for bad syntax and for a field that the resource does not offer.
    pub fn parse(resource: Resource, text: &str) -> Result<Self, ApiError> {
        let terms = text.split(',').filter(|term| !term.is_empty());
        terms.map(|term| Term::parse(resource, term)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an object is selected.
    #[must_use]
    pub fn matches(&self, object: &Object) -> bool {
        self.0.iter().all(|term| {
            let equal = match term.field.as_str() {
                "metadata.name" => *object.name == *term.value,
                "metadata.namespace" => *object.namespace == *term.value,
                field => object.content.field(field) == term.value,
            };
            equal == term.equal
        })
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Term {
    fn parse(resource: Resource, text: &str) -> Result<Self, ApiError> {
        let (field, equal, value) = [("!=", false), ("==", true), ("=", true)]
            .into_iter()
            .find_map(|(operator, equal)| text.split_once(operator).map(|(f, v)| (f, equal, v)))
            .ok_or_else(|| {
                ApiError::bad_request(format!(
                    "Unable to find \"{}\" that match label selector \"\", field selector \"{text}\": \
                     invalid selector: '{text}'; can't understand '{text}'",
                    resource.plural()
                ))
            })?;
        let common = ["metadata.name", "metadata.namespace"];
        if common.contains(&field) || resource.fields().contains(&field) {
            return Ok(Self { field: field.to_owned(), equal, value: value.to_owned() });
        }
        Err(ApiError::bad_request(format!("field label not supported: {field}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selector;
    use crate::sim::kinds::Resource;
    use crate::sim::store::Store;

    #[test]
    fn events_are_selected_by_their_known_fields() {
        let store = Store::default();
        store.put(
            Resource::Events,
            json!({
                "metadata": {"namespace": "shop", "name": "web.1"},
                "involvedObject": {"kind": "Pod", "fieldPath": "spec.containers{app}"},
                "reason": "Killing", "type": "Normal", "source": {"component": "kubelet"},
            }),
        );
        let event = store.get(Resource::Events, "shop", "web.1").unwrap();
        let cases = [
            ("", true),
            ("reason=Killing", true),
            ("reason==Killing,type=Normal", true),
            ("reason!=Killing", false),
            ("source=kubelet,reason!=Pulled,reason!=Created", true),
            ("source=scheduler", false),
            ("involvedObject.kind=Pod,metadata.namespace!=kube-system", true),
            ("involvedObject.fieldPath=spec.containers{app}", true),
            ("metadata.namespace!=shop", false),
            ("reportingComponent=", true),
        ];
        for (text, expected) in cases {
            let selector = Selector::parse(Resource::Events, text).unwrap();
            assert_eq!(selector.matches(&event), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_with_400() {
        let error = Selector::parse(Resource::Events, "message=x").unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (400, "field label not supported: message"));
        assert_eq!(Selector::parse(Resource::Pods, "nonsense").unwrap_err().code, 400);
    }
}
