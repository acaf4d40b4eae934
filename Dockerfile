# A static binary, alone in an image: no shell, no libraries, not root.
#
# For amd64 and arm64: each is built on its own architecture (a native builder, or buildx with emulation), because two crates
# hold C and Debian has no cross compiler for musl. Where no builder runs, deploy/image/assemble makes the same image from
# the last stage below and a binary.
#
# The base is pinned by version, not by digest: what it builds does not depend on it. The compiler is that of
# rust-toolchain.toml, the crates those of Cargo.lock, nothing of the base is in the image, and an unpinned base brings the
# builder its security fixes. Who wants it pinned all the same: --build-arg BASE=rust@sha256:…
ARG BASE=rust:1.95-slim-bookworm

FROM $BASE AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends musl-tools \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# Paths of the builder and the clock leave no trace in the binary. On arm64 the crates with C would look for a compiler
# that Debian calls musl-gcc.
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH \
    CARGO_INCREMENTAL=0 \
    CC_aarch64_unknown_linux_musl=musl-gcc \
    RUSTFLAGS="--remap-path-prefix=/usr/local/rustup=/rust --remap-path-prefix=/usr/local/cargo=/cargo" \
    CFLAGS="-ffile-prefix-map=/usr/local/cargo=/cargo"
# The toolchain and the target before anything that changes often.
COPY rust-toolchain.toml ./
RUN rustup target add "$(uname -m)-unknown-linux-musl"
# Dependencies first: this layer is built again only when they change. The crate is empty meanwhile.
COPY Cargo.toml Cargo.lock ./
RUN mkdir -p src benches \
 && echo 'fn main() {}' >src/main.rs && touch src/lib.rs \
 && sed -n '/^\[\[bench\]\]/,/^$/ s/^name = "\(.*\)"$/\1/p' Cargo.toml | while read -r bench; do echo 'fn main() {}' >"benches/$bench.rs"; done \
 && cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --bin exitcode-exporter \
 && rm -r src
COPY runbooks runbooks
COPY src src
ARG REVISION=unknown
ENV EXITCODE_REVISION=$REVISION
RUN touch src/main.rs src/lib.rs \
 && cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" --bin exitcode-exporter \
 && cp "target/$(uname -m)-unknown-linux-musl/release/exitcode-exporter" /exitcode-exporter

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
# Where the source is, is said by who publishes it: --label org.opencontainers.image.source=…
LABEL org.opencontainers.image.title="exitcode-exporter" \
      org.opencontainers.image.description="Counts why Kubernetes containers ended, for Prometheus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /exitcode-exporter /exitcode-exporter
USER 65534:65534
EXPOSE 10137
ENTRYPOINT ["/exitcode-exporter"]
