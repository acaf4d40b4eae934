//! The names that a link carries, and commands filled in with them.
//!
//! Whoever follows a link pastes what the page shows into a shell. So nothing from a link reaches a command unless
//! it has the form of a Kubernetes name, in which no shell finds anything to do.

/// A word in a command that stands for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// The namespace.
    Namespace,
    /// The kind of workload, as the metrics write it.
    WorkloadType,
    /// The workload's name.
    Workload,
    /// The container's name.
    Container,
    /// The pod's name.
    Pod,
    /// The node's name.
    Node,
}

impl Placeholder {
    /// Every placeholder.
    pub const ALL: [Self; 6] =
        [Self::Namespace, Self::WorkloadType, Self::Workload, Self::Container, Self::Pod, Self::Node];

    /// The word in the text of runbooks.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Namespace => "NAMESPACE",
            Self::WorkloadType => "WORKLOAD_TYPE",
            Self::Workload => "WORKLOAD",
            Self::Container => "CONTAINER",
            Self::Pod => "POD",
            Self::Node => "NODE",
        }
    }

    /// The parameter of a link that gives the name.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::WorkloadType => "workload_type",
            Self::Workload => "workload",
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Node => "node",
        }
    }

    /// Whether Kubernetes would take this name.
    fn takes(self, value: &str) -> bool {
        match self {
            Self::Namespace | Self::Container => value.len() <= 63 && is_label(value),
            Self::WorkloadType => value.len() <= 63 && value.bytes().all(is_lower_alphanumeric),
            Self::Workload | Self::Pod | Self::Node => value.len() <= 253 && value.split('.').all(is_label),
        }
    }
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// The form of a DNS-1123 label.
fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.iter().all(|&byte| is_lower_alphanumeric(byte) || byte == b'-')
        && [bytes.first(), bytes.last()]
            .iter()
            .all(|end| end.is_some_and(|&byte| is_lower_alphanumeric(byte)))
}

/// The names that are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    values: [Option<String>; Placeholder::ALL.len()],
    refused: Vec<Placeholder>,
}

/// A part of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// As the runbook has it.
    Text(&'a str),
    /// A name that was filled in.
    Name(&'a str),
    /// A name that is still to be filled in.
    Open(Placeholder),
}

impl Names {
    /// The names in a link's parameters: of each the first. Empty ones are taken as absent, what is no
    /// Kubernetes name is refused.
    #[must_use]
    pub fn read(parameters: &[(String, String)]) -> Self {
        let mut names = Self::default();
        for placeholder in Placeholder::ALL {
            let given = parameters.iter().find(|(name, _)| name == placeholder.parameter());
            match given.map(|(_, value)| value.as_str()) {
                None | Some("") => {}
                Some(value) if placeholder.takes(value) => names.set(placeholder, value),
                Some(_) => names.refused.push(placeholder),
            }
        }
        names
    }

    /// What was refused.
    #[must_use]
    pub fn refused(&self) -> &[Placeholder] {
        &self.refused
    }

    /// The name, if it is known.
    #[must_use]
    pub fn get(&self, placeholder: Placeholder) -> Option<&str> {
        self.values[placeholder as usize].as_deref()
    }

    /// Sets a name if it is not known yet and this is one.
    pub fn complete(&mut self, placeholder: Placeholder, value: &str) {
        if self.get(placeholder).is_none() && placeholder.takes(value) {
            self.set(placeholder, value);
        }
    }

    fn set(&mut self, placeholder: Placeholder, value: &str) {
        self.values[placeholder as usize] = Some(value.to_owned());
    }

    /// The names as a link's parameters, with the `?` before them; empty if none is known.
    #[must_use]
    pub fn parameters(&self) -> String {
        let mut out = String::new();
        for placeholder in Placeholder::ALL {
            if let Some(value) = self.get(placeholder) {
                out.push(if out.is_empty() { '?' } else { '&' });
                out.push_str(placeholder.parameter());
                out.push('=');
                out.push_str(value); // no name has a character that would need to be encoded
            }
        }
        out
    }

    /// Whether `kubectl rollout` knows the workload; so it is if nothing is known of it.
    #[must_use]
    pub fn has_rollouts(&self) -> bool {
        self.get(Placeholder::WorkloadType)
            .is_none_or(|kind| matches!(kind, "deployment" | "statefulset" | "daemonset"))
    }

    /// Whether the workload is a pod without a controller.
    fn is_pod(&self) -> bool {
        matches!(self.get(Placeholder::WorkloadType), Some("barepod" | "staticpod"))
    }

    /// The parts of a command, with every placeholder replaced whose name is known.
    #[must_use]
    pub fn fill<'a>(&'a self, command: &'a str) -> Vec<Part<'a>> {
        const RESOURCE: &str = "WORKLOAD_TYPE/WORKLOAD";
        if self.is_pod()
            && let Some((before, after)) = command.split_once(RESOURCE)
        {
            // No controller: the pod is the workload, and its name may be longer than the workload's.
            let mut parts = self.fill_words(before);
            parts.push(Part::Text("pod/"));
            parts.push(self.part(Placeholder::Pod));
            parts.extend(self.fill(after));
            return parts;
        }
        self.fill_words(command)
    }

    fn fill_words<'a>(&'a self, command: &'a str) -> Vec<Part<'a>> {
        let mut parts = Vec::new();
        let mut rest = command;
        while let Some((before, placeholder, after)) = next_placeholder(rest) {
            if !before.is_empty() {
                parts.push(Part::Text(before));
            }
            parts.push(self.part(placeholder));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest));
        }
        parts
    }

    fn part(&self, placeholder: Placeholder) -> Part<'_> {
        match self.get(placeholder) {
            Some("barepod" | "staticpod") if placeholder == Placeholder::WorkloadType => Part::Name("pod"),
            Some(name) => Part::Name(name),
            None => Part::Open(placeholder),
        }
    }
}

/// The first word that is a placeholder, and what is around it.
fn next_placeholder(text: &str) -> Option<(&str, Placeholder, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut from = 0;
    while let Some(start) = text[from..].find(is_word).map(|at| from + at) {
        let end = text[start..].find(|c| !is_word(c)).map_or(text.len(), |length| start + length);
        let word = &text[start..end];
        if let Some(found) = Placeholder::ALL.into_iter().find(|placeholder| placeholder.word() == word) {
            return Some((&text[..start], found, &text[end..]));
        }
        from = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Names {
        let owned: Vec<_> = parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Names::read(&owned)
    }

    fn filled(names: &Names, command: &str) -> String {
        let text = |part: &Part<'_>| match part {
            Part::Text(text) => (*text).to_owned(),
            Part::Name(name) => format!("[{name}]"),
            Part::Open(placeholder) => format!("?{}?", placeholder.word()),
        };
        names.fill(command).iter().map(text).collect()
    }

    #[test]
    fn names_take_the_place_of_whole_words_only() {
        let names = read(&[("namespace", "shop"), ("workload", "web.v2"), ("workload_type", "deployment")]);
        for (command, expected) in [
            (
                "kubectl get pods -n NAMESPACE | grep '^WORKLOAD'",
                "kubectl get pods -n [shop] | grep '^[web.v2]'",
            ),
            ("logs -n NAMESPACE POD -c CONTAINER", "logs -n [shop] ?POD? -c ?CONTAINER?"),
            ("edit WORKLOAD_TYPE/WORKLOAD", "edit [deployment]/[web.v2]"),
            ("PODS POD_NAME XPOD POD1 {.POD}", "PODS POD_NAME XPOD POD1 {.?POD?}"),
            ("no placeholder: é 漢", "no placeholder: é 漢"),
            ("", ""),
        ] {
            assert_eq!(filled(&names, command), expected);
        }
    }

    #[test]
    fn a_workload_that_is_a_pod_is_called_so() {
        let names = read(&[("workload_type", "staticpod"), ("workload", "etcd"), ("pod", "etcd-node-1")]);
        assert_eq!(
            filled(
                &names,
                "edit WORKLOAD_TYPE/WORKLOAD; get WORKLOAD_TYPE WORKLOAD; get WORKLOAD_TYPE/WORKLOAD\n"
            ),
            "edit pod/[etcd-node-1]; get [pod] [etcd]; get pod/[etcd-node-1]\n"
        );
        assert_eq!(filled(&read(&[("workload_type", "barepod")]), "WORKLOAD_TYPE/WORKLOAD"), "pod/?POD?");
    }

    #[test]
    fn what_is_no_kubernetes_name_is_refused() {
        let long = "a".repeat(64);
        let too_long = format!("{}a", "a.".repeat(127));
        let huge = "a".repeat(1 << 20);
        for value in [
            "a;reboot",
            "a b",
            "$(reboot)",
            "`reboot`",
            "a'b",
            "a\"b",
            "a\nb",
            "a\n",
            "<b>",
            "a&b",
            "a|b",
            "A",
            "a_b",
            "é",
            "-n",
            "a-",
            ".",
            "a..b",
            "../x",
            "a/b",
            "a\0",
            "*",
            "~",
            "a\\",
            "a%20b",
            &too_long,
            &huge,
        ] {
            for placeholder in Placeholder::ALL {
                let names = read(&[(placeholder.parameter(), value)]);
                assert_eq!(
                    (names.get(placeholder), names.refused()),
                    (None, &[placeholder][..]),
                    "{value:.40}"
                );
                assert_eq!(names.parameters(), "");
            }
        }
        for placeholder in [Placeholder::Namespace, Placeholder::Container, Placeholder::WorkloadType] {
            assert_eq!(read(&[(placeholder.parameter(), &long)]).get(placeholder), None);
            assert_eq!(read(&[(placeholder.parameter(), "a.b")]).get(placeholder), None);
        }
        assert_eq!(read(&[("workload_type", "a-b")]).refused(), [Placeholder::WorkloadType]);
        assert!(read(&[("namespace", ""), ("other", ";")]).refused().is_empty());
    }

    #[test]
    fn kubernetes_names_are_taken_and_the_first_of_two_counts() {
        let all = [
            ("namespace", "kube-system"),
            ("workload_type", "deployment"),
            ("workload", "a.b-1.c"),
            ("container", "0"),
            ("pod", "a.b-1.c-x7"),
            ("node", "ip-10-0-0-1.ec2.internal"),
        ];
        let mut names = read(&all);
        assert_eq!(
            names.parameters(),
            "?namespace=kube-system&workload_type=deployment&workload=a.b-1.c&container=0&pod=a.b-1.c-x7\
             &node=ip-10-0-0-1.ec2.internal"
        );
        names.complete(Placeholder::Pod, "other");
        assert_eq!(names.get(Placeholder::Pod), Some("a.b-1.c-x7"), "what the link says stays");
        assert_eq!(read(&[("pod", "a"), ("pod", "b")]).get(Placeholder::Pod), Some("a"));
        assert_eq!(read(&[("pod", ";"), ("pod", "b")]).get(Placeholder::Pod), None);
        let mut names = Names::default();
        names.complete(Placeholder::Pod, "$(x)");
        assert_eq!(names.get(Placeholder::Pod), None);
    }
}
