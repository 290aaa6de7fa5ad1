# niphash serve on a CPU:
#   docker build --tag niphash .
#   docker run --publish 8000:8000 --volume "$PWD/photos.index:/index" --env NIPHASH_TOKEN=<8 or more letters> niphash
# The photos of the index must lie under the same path in the container for their pictures to be shown:
#   --volume "$PWD/photos:$PWD/photos:ro"
# PyTorch's builds without CUDA are some gigabytes smaller; where they come from is a build argument:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=<the index of PyTorch's CPU builds> --tag niphash .
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN python -m pip install --no-cache-dir "build>=1.2" && python -m build --wheel --outdir /wheels .

FROM python:3.11-slim
ARG PIP_EXTRA_INDEX_URL
COPY constraints.txt requirements-search.txt /install/
RUN python -m pip install --no-cache-dir -c /install/constraints.txt -r /install/requirements-search.txt \
    torchvision fastapi python-multipart uvicorn
COPY --from=wheel /wheels /install/wheels
RUN python -m pip install --no-cache-dir --no-deps /install/wheels/*.whl && python -m niphash.search.compilation
RUN useradd --create-home niphash
USER niphash
ENV NIPHASH_DATA=/home/niphash/data OMP_NUM_THREADS=1
EXPOSE 8000
ENTRYPOINT ["niphash"]
CMD ["serve", "/index", "--host", "0.0.0.0", "--port", "8000"]
