# The command line on a CPU, or with `--build-arg INDEX=https://download.pytorch.org/whl/cu128` and
# `docker run --gpus all` on GPUs:
#   docker build --tag nextconcept .
#   docker run --volume "$PWD":/work nextconcept fit --config shakespeare
FROM python:3.11-slim
ARG INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /package
COPY constraints.txt setup.cfg pyproject.toml README.md LICENSE ./
COPY nextconcept nextconcept
COPY experiments experiments
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url "$INDEX" .
WORKDIR /work
ENTRYPOINT ["nextconcept"]
