# One image for every role; docker-compose-example.yml shows each role as a container of its own.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches keep dependencies between builds; what is wanted leaves them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin ctlstore \
    && install -D target/release/ctlstore /image/usr/local/bin/ctlstore \
    && install -d /image/var/lib/ctlstore/snapshots

# glibc, certificates and nothing else: no shell, no package manager. 65532 is its user nonroot.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/usr/local/bin/ctlstore /usr/local/bin/ctlstore
# Named volumes take their first content and owner from here, so a volume at one of these paths can be written to.
COPY --from=build --chown=65532:65532 /image/var/lib/ctlstore /var/lib/ctlstore
ENV CTLSTORE__NODE__DATA_DIR=/var/lib/ctlstore
USER 65532:65532
EXPOSE 1331 3000 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["ctlstore", "health"]
ENTRYPOINT ["ctlstore"]
CMD ["node"]
