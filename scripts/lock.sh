#!/usr/bin/env bash
# Write locks/: every installed package, its version and the SHA-256 of each of its files, for every Python that
# pyproject.toml supports. Run it after each change of a pin:   scripts/lock.sh   (needs the network, and uv: pip install uv)
#
#   serve.txt      what ./serve.sh installs, but torch       image.txt  what the CPU image has, but torch
#   all.txt        what ./test.sh installs, but torch        cuda.txt   what the CUDA image has, torch from PyPI
#   sbom.json      what the CPU image has, as CycloneDX; the image carries it (Debian's packages are in its dpkg)
#   torch-cpu.txt  torch's CPU build, from whichever index: PyTorch's own, or a folder of wheels (TORCH_WHEELS)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/pins.sh
command -v uv >/dev/null || { echo "lock.sh: needs uv: pip install uv" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# compile OUTPUT INPUT [option...]
compile() {
  local output=$1
  shift
  echo "$output"
  uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header --no-annotate \
    --no-config --default-index https://pypi.org/simple "$@" --output-file "$scratch/$output"
}

# Dependencies of torch's PyPI builds that its CPU build does not need.
cpu=(--no-emit-package torch --excludes "$scratch/cuda-only.txt")
# uv ignores a package's upper bound on Python: 1.3 supports none above 3.10.
echo "backports-strenum<1.3" >"$scratch/bounds.txt"
image_pins >"$scratch/image.in"
compile cuda.txt "$scratch/image.in"
grep -oE '^(nvidia|cuda|triton)[a-z0-9-]*' "$scratch/cuda.txt" | sort -u >"$scratch/cuda-only.txt"
compile image.txt "$scratch/image.in" "${cpu[@]}" -c "$scratch/cuda.txt"
compile all.txt pyproject.toml --extra serve --extra archive --extra train --extra video --extra dev "${cpu[@]}" -c "$scratch/image.txt" \
  -c "$scratch/bounds.txt"
compile serve.txt pyproject.toml --extra serve --extra archive "${cpu[@]}" -c "$scratch/all.txt"

# torch itself: PyPI's files, those of PyTorch's CPU index if it is reachable, and local wheels.
{
  sed -n '/^torch==/,/^[^ ]/p' "$scratch/cuda.txt" | grep -E '^torch==|^ +--hash' | sed 's/ *\\$//; s/ ;.*//'
  uv pip compile --quiet --generate-hashes --no-header --no-annotate --no-config --no-deps --universal --python-version 3.10 \
    --default-index "${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}" <(echo "$(pin_of torch)") 2>/dev/null |
    grep -oE '^ +--hash=sha256:[0-9a-f]+' || echo "lock.sh: warning: could not reach PyTorch's CPU index; its files are not locked" >&2
  for wheel in "${TORCH_WHEELS:-/nowhere}"/torch-"$(pin_of torch | sed 's/.*==//')"[+-]*.whl; do
    [ ! -f "$wheel" ] || echo "    --hash=sha256:$(sha256sum "$wheel" | cut -d' ' -f1)"
  done
} | awk 'NR == 1 || !seen[$0]++ {lines[++n] = $0} END {for (i = 1; i <= n; i++) print lines[i] (i < n ? " \\" : "")}' \
  >"$scratch/torch-cpu.txt"

mkdir -p locks
for name in serve all image cuda torch-cpu; do
  { echo "# scripts/lock.sh made this from the pins $(pins_hash)"; cat "$scratch/$name.txt"; } >"locks/$name.txt"
done

# TorchServe's jar contains its libraries: those with known versions are added manually.
{ grep '^torch==' "$scratch/cuda.txt"; sed 's/ *\\$//; /^ *--hash/d' "$scratch/image.txt"; } | sed 's/ *\\$//' >"$scratch/sbom.in"
uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements "$scratch/sbom.in" \
  --output-reproducible --spec-version 1.6 --output-format JSON --output-file "$scratch/sbom.json"
"${PYTHON:-python3}" - "$scratch/sbom.json" locks/sbom.json <<'END'
import json, sys
document = json.load(open(sys.argv[1]))
jars = {"io.netty/netty-all": "4.1.53.Final", "io.netty/netty-tcnative": "2.0.34.Final", "io.grpc/grpc-netty-shaded": "1.50.0",
        "org.apache.logging.log4j/log4j-core": "2.17.1"}
for name, version in jars.items():
    group, artifact = name.split("/")
    purl = f"pkg:maven/{name}@{version}"
    document["components"].append({"bom-ref": purl, "type": "library", "group": group, "name": artifact, "version": version,
                                   "purl": purl, "description": "inside torchserve's model-server.jar"})
json.dump(document, open(sys.argv[2], "w"), indent=1, sort_keys=True)
END
