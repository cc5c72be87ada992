# Sourced: the pins of pyproject.toml, and whether locks/ is up to date.

# A hash of all requirements, so that changes to other lines of pyproject.toml need no new lock.
pins_hash() {
  grep -E '^ +"[A-Za-z0-9._-]+(\[[a-z,]+\])?[<>=~!]=?[^"]*"' pyproject.toml | sed 's/ *#.*//' | sha256sum | cut -d' ' -f1
}

# The one pin of a package: pin_of torch -> torch==2.13.0
pin_of() {
  grep -oE "\"$1==[^\";]*" pyproject.toml | head -n 1 | tr -d '"'
}

# The image's packages: without the embedded store (a container has a bucket) and duckdb (no queries there).
image_pins() {
  "${PYTHON:-python3}" -c "
import tomllib
p = tomllib.load(open('pyproject.toml', 'rb'))['project']
e = p['optional-dependencies']
wanted = {*p['dependencies'], *e['segmentation'], *e['archive'], *e['serve']}
left_out = ('seaweedfs', 'cryptography', 'duckdb', 'humanseg')
print(*sorted(one for one in wanted if not one.startswith(left_out)), sep='\n')"
}

# lock_is_of_these_pins FILE: whether FILE of locks/ was made from the current pins
lock_is_of_these_pins() {
  [ "$(head -n 1 "$1" 2>/dev/null)" = "# scripts/lock.sh made this from the pins $(pins_hash)" ]
}
