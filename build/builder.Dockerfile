# Compiles TensorRT plans with the TensorRT that the Triton container of the same release has: build/containers.md.
#   docker build -f build/builder.Dockerfile -t aigid-builder:26.07 .
ARG RELEASE=26.07
FROM nvcr.io/nvidia/tensorrt:${RELEASE}-py3

WORKDIR /aigid
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY aigid aigid
COPY model_repository model_repository
COPY build build

# The virtual environment sees the container's packages and changes none: `tensorrt` is the container's own, and nothing here
# asks pip for another. It does without a pip of its own, for which the container lacks ensurepip.
# PIP_CONSTRAINT, unlike --constraint, takes the place of any constraints that the container sets, and pins hatchling too.
# Compiling takes no torch: checkpoints are exported where they were trained, or on any CPU, with the extra `build`.
ENV PATH=/opt/aigid/bin:${PATH}
# hadolint ignore=DL3013
RUN python3 -m venv --without-pip --system-site-packages /opt/aigid \
    && PIP_CONSTRAINT=/aigid/constraints.txt python -m pip install --no-cache-dir '/aigid[serve]' onnx \
    && python -c "from importlib.util import find_spec; assert find_spec('tensorrt'), 'no tensorrt for this Python'"

# Root, for plans are written into a mounted folder whose owner no image can know: `docker run --user` names that one.
CMD ["python", "build/onnx_to_tensorrt.py", "--help"]
