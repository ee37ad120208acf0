# The image of s3veil: one static program, the system's root certificates, and a user. Nothing else is in it, no shell either.
#
#   docker build -t s3veil .          (or: podman build, buildah build)
#   docker run -p 8333:8333 -e S3VEIL_LISTEN=0.0.0.0:8333 -v "$PWD/proxy.toml:/etc/s3veil/proxy.toml:ro" s3veil
#
# docs/operations.md says what it needs. What is built, and how, is in .ci/image/rootfs; .ci/image/test builds the second stage
# from that, and runs it.

# The Rust that s3veil is made for: `rust-version` in Cargo.toml.
ARG RUST_VERSION=1.94.1

FROM docker.io/library/rust:${RUST_VERSION}-bookworm AS build
WORKDIR /s3veil
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/s3veil/target \
    .ci/image/rootfs /image/root && mkdir /image/state

FROM scratch
COPY --from=build /image/root /
# A volume that is new takes the rights of what it covers: this is where a local keystore may be.
COPY --from=build --chown=65532:65532 /image/state /var/lib/s3veil
ENV S3VEIL_CONFIG=/etc/s3veil/proxy.toml
USER 65532:65532
# S3, and health and metrics. The configuration says which are served.
EXPOSE 8333 9333
ENTRYPOINT ["/s3veil"]
CMD ["serve", "--config", "/etc/s3veil/proxy.toml"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="s3veil" \
    org.opencontainers.image.description="A transparent encrypting reverse proxy for S3" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
