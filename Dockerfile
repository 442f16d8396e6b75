# One image for every role; docker-compose-example.yml shows each role as a container of its own.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches keep dependencies between builds; what is wanted leaves them in the same step.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin ctlstore \
    && install -D target/release/ctlstore /image/usr/local/bin/ctlstore \
    && ln -s ctlstore /image/usr/local/bin/ctlstore-cli \
    && install -d /image/var/lib/ctlstore/snapshots /image/var/spool/ctlstore /image/data /image/snapshots

# glibc, certificates and nothing else: no shell, no package manager. 65532 is its user nonroot.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /image/usr/local/bin/ /usr/local/bin/
# Named volumes take their first content and owner from here, so a volume at one of these paths can be written to.
COPY --from=build --chown=65532:65532 /image/var/lib/ctlstore /var/lib/ctlstore
# Where the Go program's example of a fleet keeps its files.
COPY --from=build --chown=65532:65532 /image/var/spool/ctlstore /var/spool/ctlstore
COPY --from=build --chown=65532:65532 /image/data /data
COPY --from=build --chown=65532:65532 /image/snapshots /snapshots
ENV CTLSTORE__NODE__DATA_DIR=/var/lib/ctlstore
# The Go program's commands would take any port, which the health check could not know.
ENV CTLSTORE__OPS__BIND=127.0.0.1:9090
USER 65532:65532
EXPOSE 1331 3000 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["ctlstore", "health"]
ENTRYPOINT ["ctlstore"]
CMD ["node"]
