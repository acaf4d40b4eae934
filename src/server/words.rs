//! What the frame of the runbooks says, in each language.

use crate::runbook::fill::Placeholder;
use crate::runbook::library::Language;

/// The words.
pub(super) struct Words {
    pub runbooks: &'static str,
    pub about: &'static str,
    pub all_runbooks: &'static str,
    pub no_such_runbook: &'static str,
    pub raw: &'static str,
    pub refused: &'static str,
    pub find_pod: &'static str,
    pub nothing_filled_in: &'static str,
    pub last_ends: &'static str,
    pub ended: &'static str,
    pub exit_code: &'static str,
    pub cause: &'static str,
    pub ran_for: &'static str,
    pub pod: &'static str,
    pub contents: &'static str,
    placeholders: [&'static str; 6],
}

const ENGLISH: Words = Words {
    runbooks: "Runbooks",
    about: "One for each exit code with a meaning of its own, and for what alerts are about. Links from alerts, logs \
            and tables carry the names of the container, and the commands are filled in with them.",
    all_runbooks: "All runbooks",
    no_such_runbook: "There is no such runbook",
    raw: "Raw file",
    refused: "what the link gives is not a valid Kubernetes name, so it was left out. Fill in the placeholder by hand.",
    find_pod: "No end of this container has been seen since the exporter started, so the pod is not known. Find it:",
    nothing_filled_in: "The words in capitals in the commands (<mark>NAMESPACE</mark>, <mark>POD</mark>, …) are yours to \
                        fill in. Links from alerts and from the log fill them in for you.",
    last_ends: "Its last ends",
    ended: "ended",
    exit_code: "exit code",
    cause: "cause",
    ran_for: "ran for",
    pod: "pod",
    contents: "Contents",
    placeholders: ["Namespace", "Workload type", "Workload", "Container", "Pod", "Node"],
};

const KOREAN: Words = Words {
    runbooks: "런북",
    about: "고유한 의미가 있는 종료 코드와 알림 주제마다 하나씩 있습니다. 알림, 로그, 표의 링크에는 컨테이너의 이름들이 들어 \
            있어서 명령어가 그 이름으로 채워집니다.",
    all_runbooks: "전체 런북",
    no_such_runbook: "그런 런북은 없습니다",
    raw: "원본 파일",
    refused: "링크에 담긴 값이 올바른 쿠버네티스 이름이 아니어서 쓰지 않았습니다. 자리표시자를 직접 채우세요.",
    find_pod: "익스포터가 시작된 뒤로 이 컨테이너가 종료된 적이 없어 파드를 알 수 없습니다. 다음 명령으로 찾으세요.",
    nothing_filled_in: "명령어의 대문자 단어(<mark>NAMESPACE</mark>, <mark>POD</mark> 등)는 직접 채워야 합니다. 알림이나 \
                        로그의 링크로 들어오면 자동으로 채워집니다.",
    last_ends: "이 컨테이너의 최근 종료",
    ended: "종료 시각",
    exit_code: "종료 코드",
    cause: "원인(cause)",
    ran_for: "실행 시간",
    pod: "파드",
    contents: "목차",
    placeholders: ["네임스페이스", "워크로드 종류", "워크로드", "컨테이너", "파드", "노드"],
};

impl Words {
    pub(super) const fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &ENGLISH,
            Language::Korean => &KOREAN,
        }
    }

    pub(super) const fn placeholder(&self, placeholder: Placeholder) -> &'static str {
        self.placeholders[placeholder as usize]
    }
}
