# Triton with aigid, which the repository's Python models import.
# Mount the model repository at /models; build its plans with the same release: build/containers.md.
#   docker build -f build/server.Dockerfile -t aigid-server:26.07 .
ARG RELEASE=26.07
FROM nvcr.io/nvidia/tritonserver:${RELEASE}-py3 AS packages

WORKDIR /aigid
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY aigid aigid
COPY model_repository model_repository
# PIP_CONSTRAINT, unlike --constraint, replaces any constraints that the container sets, and pins hatchling too.
RUN PIP_CONSTRAINT=/aigid/constraints.txt python3 -m pip install --no-cache-dir --target /opt/aigid .

FROM nvcr.io/nvidia/tritonserver:${RELEASE}-py3

# Apart from the container's packages, and found before them: the container's numpy is too old for the pinned pyarrow.
COPY --from=packages /opt/aigid /opt/aigid
# A .pth file, because the Python backend of some releases ignores PYTHONPATH.
RUN echo "import sys; sys.path.insert(0, '/opt/aigid')" \
    > "$(python3 -c 'import site; print(site.getsitepackages()[0])')/aigid.pth"

# `triton-server`, the container's own user: it must be allowed to read the mounted repository.
USER 1000
# gRPC, metrics
EXPOSE 8001 8002
# Ready means that every model is loaded and warmed up, and every engine with each of its profiles.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m \
    CMD ["python3", "-m", "aigid.serving.health", "localhost:8001"]
# Without HTTP, and without the calls that no client needs: Triton's HTTP front crashes on large or nested requests, and its
# shared-memory calls write to any region of /dev/shm. The header that would open them is in capitals, which HTTP/2 cannot carry.
# On a CPU add --model-config-name=cpu, which reads configs/cpu.pbtxt.
CMD ["tritonserver", "--model-repository=/models", "--allow-http=false", "--grpc-restricted-protocol=shared-memory,model-repository,logging,trace,statistics:CLOSED=CLOSED"]
