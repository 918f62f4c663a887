# twobe3 in a container: needs no network when it runs, and no root. How to use it: docs/howto/container.md.
FROM python:3.12-slim-bookworm

# Extras of pyproject.toml; `--build-arg EXTRAS=codecs,radiomics` for a radiomics model alone.
ARG EXTRAS=codecs,timm,node,serve
# Where pip looks besides its own index: PyTorch's index of CPU builds saves gigabytes of CUDA.
ARG PIP_EXTRA_INDEX_URL=

WORKDIR /opt/twobe3
COPY LICENSE README.md constraints.txt pyproject.toml ./
COPY src ./src
RUN pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

RUN useradd --uid 10001 --create-home twobe3 && mkdir /input /output /model && chown twobe3 /output
USER twobe3
# Pseudonyms last as long as the container, unless a key is mounted here; one task, one thread.
ENV TWOBE3_KEY_FILE=/tmp/pseudonym.key OMP_NUM_THREADS=1 MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /output
ENTRYPOINT ["twobe3"]
CMD ["predict", "/model", "/input", "--out", "/output/predictions.json"]
