# A static binary, alone in an image: no shell, no libraries, not root.
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends musl-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The toolchain and the target before anything that changes often.
COPY rust-toolchain.toml ./
RUN rustup target add "$(uname -m)-unknown-linux-musl"
# Dependencies first: this layer is built again only when they change. The crate is empty meanwhile.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches \
 && echo 'fn main() {}' >src/main.rs && touch src/lib.rs \
 && sed -n '/^\[\[bench\]\]/,/^$/ s/^name = "\(.*\)"$/\1/p' Cargo.toml | while read -r bench; do echo 'fn main() {}' >"benches/$bench.rs"; done \
 && cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" \
 && rm -r src benches
COPY . .
ARG REVISION=unknown
ENV EXITCODE_REVISION=$REVISION
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --bin exitcode-exporter \
 && cp "target/$(uname -m)-unknown-linux-musl/release/exitcode-exporter" /exitcode-exporter

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="exitcode-exporter" \
      org.opencontainers.image.description="Counts why Kubernetes containers ended, for Prometheus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /exitcode-exporter /exitcode-exporter
USER 65534:65534
EXPOSE 10137
ENTRYPOINT ["/exitcode-exporter"]
