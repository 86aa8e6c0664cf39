#!/usr/bin/env bash
# Installs the peers: the programs that tests and benchmarks talk to, compare with or measure by.
#
# `make test`, `make bench` and `.ci/run` run it first. Debian's packages come by apt-get, if this is root. Bun comes by npm
# into build/peers of this checkout, which needs no root. It does not install npm: Debian's is hundreds of packages.
#
# Promises: it prints one line, which says what it installed, what is missing and why. It ends with 0 whatever happened: a
# test or a benchmark whose peer is missing is skipped, with a reason that names the peer. If nothing is missing, it asks no
# network.
#
#   PYBUNTCP_INSTALL=no tests/peers/install.sh      installs nothing, and says what is missing
#   tests/peers/install.sh --list                   the names of the programs; bun's, and nginx's module, are not among them
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 0

packages="redis-server redis-tools postgresql nginx-light libnginx-mod-stream haproxy wrk openssl valgrind nodejs"
bun_version=$(sed -n 's/.*"bun": "\(.*\)".*/\1/p' tests/peers/package.json)
log=$(mktemp) || exit 0
trap 'rm -f "$log"' EXIT

program_of() {
  case $1 in
    redis-tools) echo redis-benchmark ;;
    nginx-light) echo nginx ;;
    nodejs) echo node ;;
    postgresql) echo postgres ;;
    *) echo "$1" ;;
  esac
}
if [[ ${1:-} == --list ]]; then
  for name in ${packages/libnginx-mod-stream/}; do program_of "$name"; done
  exit
fi
bun_is_there() {
  [[ -n ${BUN+set} || $(bun --version 2>/dev/null) == "$bun_version" ]] ||
    grep -qs "\"version\": \"$bun_version\"" build/peers/node_modules/bun/package.json
}
postgres_is_there() { compgen -G "${POSTGRESQL:-/usr/lib/postgresql}/*/bin/postgres" >/dev/null; }    # Debian keeps it out of PATH
stream_is_there() { [[ -e ${NGINX_MODULES:-/usr/lib/nginx/modules}/ngx_stream_module.so ]]; }
is_there() {    # servers lie in the sbin beside a bin
  if [[ $1 == bun ]]; then bun_is_there; return; fi
  if [[ $1 == libnginx-mod-stream ]]; then stream_is_there; return; fi
  if [[ $1 == postgresql ]] && postgres_is_there; then return; fi
  PATH=$PATH:$(sed 's,/bin\(:\|$\),/sbin\1,g' <<<"$PATH") command -v "$(program_of "$1")" >/dev/null
}
absent() { local name; for name; do is_there "$name" || echo "$name"; done; }

apt() {    # RUNLEVEL=1: the packages' services are not to be started
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -qq -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1 </dev/null
}
add() { apt install -y --no-install-recommends "$@"; }
first_error() { sed -n '/^E: /{s///p;q;}' "$log"; }

# The installers print why they could not, a line each.
install_packages() {    # all at once is faster; if that fails, each that can be had
  local name
  [[ $# == 0 ]] && return
  command -v apt-get >/dev/null || { echo 'no apt-get'; return; }
  [[ $(id -u) == 0 ]] || { echo 'apt-get needs root'; return; }
  apt update
  add "$@" && return
  for name; do add "$name" || echo "$name: $(first_error)"; done
}
install_bun() {
  command -v npm >/dev/null || { echo 'bun: no npm'; return; }
  npm install --silent --no-audit --no-fund --fetch-retries=1 --prefix build/peers "bun@$bun_version" >"$log" 2>&1 </dev/null ||
    echo 'bun: npm cannot install it'
}
install_all() {    # install_all NAME...
  if [[ ${PYBUNTCP_INSTALL:-} == no ]]; then echo 'PYBUNTCP_INSTALL=no'; return; fi
  install_packages ${*/#bun/}
  [[ " $* " != *" bun "* ]] || install_bun
}

wanted=$(absent $packages bun)
reasons=$(install_all $wanted)
reasons=${reasons:-its program is not in PATH}
missing=$(absent $wanted)
installed=$(for name in $wanted; do ! is_there "$name" || echo "$name"; done)
words=''
[[ -z $installed ]] || words+="; installed: ${installed//$'\n'/, }"
[[ -z $missing ]] || words+="; missing: ${missing//$'\n'/, } (${reasons//$'\n'/; })"
words=${words:-; none is missing}
echo "peers: ${words#; }"
