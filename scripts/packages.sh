# shellcheck shell=bash
# What a fresh Debian lacks. Sourced by `run` and `test`; installs only what is missing.

# install_missing WHAT:PACKAGE...: WHAT is a command, a file's path, or ?MODULE for a module of python3.
install_missing() {
  local entry missing=()
  for entry; do
    is_there "${entry%:*}" || missing+=("${entry##*:}")
  done
  ((${#missing[@]})) || return 0
  if ! command -v apt-get >/dev/null; then
    echo "Please install, by your system's own means, what Debian calls: ${missing[*]}" >&2
    return 1
  fi
  if [[ $(id -u) != 0 ]]; then
    echo "These packages are missing. Please run, as root: apt-get install ${missing[*]}" >&2
    return 1
  fi
  echo "installing ${missing[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update >&2 && apt-get -qq -y --no-install-recommends install "${missing[@]}" >/dev/null
}

is_there() {
  case "$1" in
    /*) [[ -e $1 ]] ;;
    \?*) python3 -c "import ${1#?}" 2>/dev/null ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# What `cargo build` needs beside Rust itself: the TLS library and the allocator are C.
install_build_needs() {
  install_missing cc:gcc /usr/include/stdlib.h:libc6-dev make:make cmake:cmake
  [[ -x $HOME/.cargo/bin/cargo ]] && PATH="$HOME/.cargo/bin:$PATH"
  command -v cargo >/dev/null || {
    echo "There is no cargo. Please install Rust with rustup first." >&2
    return 1
  }
}

# A minimal system may not know what every other one does (RFC 6761, section 6.3); one test needs both families.
install_localhost() {
  getent ahosts localhost >/dev/null && return
  [[ $(id -u) == 0 ]] || return 0
  printf '127.0.0.1 localhost\n::1 localhost\n' >>/etc/hosts
}
