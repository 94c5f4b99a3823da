# Compiles TensorRT plans, with the TensorRT of the Triton container of the same release: build/containers.md.
#   docker build -f build/builder.Dockerfile -t aigid-builder:26.07 .
ARG RELEASE=26.07
FROM nvcr.io/nvidia/tensorrt:${RELEASE}-py3

WORKDIR /aigid
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY aigid aigid
COPY model_repository model_repository
COPY build build

# The virtual environment sees the container's packages and changes none of them: `tensorrt` is the container's own, and
# nothing here asks pip for another. It has no pip of its own, because the container lacks ensurepip.
# PIP_CONSTRAINT, unlike --constraint, replaces any constraints that the container sets, and pins hatchling too.
# aigid.export compiles engines without torch: checkpoints are exported elsewhere, on any CPU, with the extra `build`.
ENV PATH=/opt/aigid/bin:${PATH}
# hadolint ignore=DL3013
RUN python3 -m venv --without-pip --system-site-packages /opt/aigid \
    && PIP_CONSTRAINT=/aigid/constraints.txt python -m pip install --no-cache-dir '/aigid[serve]' onnx \
    && python -c "from importlib.util import find_spec; assert find_spec('tensorrt'), 'no tensorrt for this Python'"

# Runs as root: plans are written into a mounted folder, whose owner `docker run --user` names.
CMD ["python", "build/onnx_to_tensorrt.py", "--help"]
