# pawl: one Makefile. Objects go under $(BUILD), dependencies are generated, sources are found by wildcard.
#
#   make            build the tool (needs the libraries; `make demo` and `make test` install them on Debian)
#   make test       everything that proves it; make demo: a real batch; make help: the rest

# make's own default is cc, which is not told apart from a user's choice by ?=.
ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX  ?= /usr/local
DESTDIR ?=
CFLAGS  ?= -O2 -g
BUILD   ?= build
VERSION := 0.1.0

CLANG_FORMAT ?= clang-format-14
CLANG_TIDY   ?= clang-tidy-14
JOBS         ?= $(shell nproc 2>/dev/null || echo 2)

PAWL_CFLAGS := -std=c11 -D_GNU_SOURCE -DPAWL_VERSION='"$(VERSION)"' -I. -Wall -Wextra -Wshadow \
	-Wswitch-enum -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -fPIC -fvisibility=hidden -MMD -MP
PAWL_LIBS := -luring -lfyaml -ljansson -lxxhash -lm
# pawl top draws with it; the library has no use for it.
TERMINAL_LIBS := -lncursesw -ltinfo
# jemalloc belongs to the tool: Criterion and the sanitizers bring their own ideas of malloc.
TOOL_LIBS := -ljemalloc $(PAWL_LIBS) $(TERMINAL_LIBS)

# SANITIZE=address,undefined or thread: set by the targets asan and tsan, each with a build directory of its own.
ifdef SANITIZE
PAWL_CFLAGS += -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
PAWL_CFLAGS += $(if $(filter thread,$(SANITIZE)),-Wno-tsan)
LDFLAGS     += -fsanitize=$(SANITIZE)
TOOL_LIBS   := $(PAWL_LIBS) $(TERMINAL_LIBS)
endif
FLAGS := $(CC) $(PAWL_CFLAGS) $(CPPFLAGS) $(CFLAGS)
ifeq ($(WERROR),1)
PAWL_CFLAGS += -Werror
endif

SHM_SRCS       := $(sort $(wildcard shm/*.c))
SCHEDULER_SRCS := $(sort $(wildcard scheduler/*.c scheduler/bus/*.c))
WORKERS_SRCS   := $(sort $(wildcard workers/*.c))
RUNTIME_SRCS   := $(sort $(wildcard runtime/*.c))
LIB_SRCS       := $(sort $(wildcard runtime/lib/*.c))
MAIN_SRCS      := runtime/cli/main.c
CLI_SRCS       := $(filter-out $(MAIN_SRCS),$(sort $(wildcard runtime/cli/*.c)))
# A program of its own, for `make bench-peers` alone. Peers with a client library only where that is.
PEERS_SRCS     := $(sort $(wildcard bench/peers_*.c))
has_header      = $(shell echo '#include <$(1)>' | $(CC) $(CPPFLAGS) -E -x c - >/dev/null 2>&1 && echo yes)
PEERS_ABSENT    = $(if $(call has_header,nats/nats.h),,bench/peers_nats.c) $(if $(call has_header,amqp.h),,bench/peers_rabbitmq.c)
PEERS_LIBS      = $(if $(filter %_nats.o,$^),-lnats) $(if $(filter %_rabbitmq.o,$^),-lrabbitmq)
BENCH_SRCS     := $(filter-out $(PEERS_SRCS),$(sort $(wildcard bench/*.c)))
UNIT_SRCS      := $(sort $(wildcard tests/unit/*.c))
SIM_SRCS       := $(sort $(wildcard tests/sim/*.c))
STRESS_SRCS    := $(sort $(wildcard tests/stress/*.c))
FUZZ_SRCS      := $(sort $(wildcard tests/fuzz/*.c))

ROOM_SRCS := $(SHM_SRCS) $(SCHEDULER_SRCS) $(WORKERS_SRCS) $(RUNTIME_SRCS) $(LIB_SRCS) $(CLI_SRCS)
ROOM_OBJS := $(ROOM_SRCS:%.c=$(BUILD)/%.o)
TOOL_OBJS := $(MAIN_SRCS:%.c=$(BUILD)/%.o) $(BENCH_SRCS:%.c=$(BUILD)/%.o)
UNIT_OBJS := $(UNIT_SRCS:%.c=$(BUILD)/%.o)
SIM_OBJS  := $(SIM_SRCS:%.c=$(BUILD)/%.o)
STRESS_OBJS := $(STRESS_SRCS:%.c=$(BUILD)/%.o)
STRESS_BINS := $(STRESS_SRCS:%.c=$(BUILD)/%)
ALL_SRCS  := $(ROOM_SRCS) $(MAIN_SRCS) $(BENCH_SRCS) $(PEERS_SRCS) $(UNIT_SRCS) $(SIM_SRCS) $(STRESS_SRCS) $(FUZZ_SRCS)
ALL_HDRS  := $(sort $(wildcard shm/*.h scheduler/*.h scheduler/bus/*.h workers/*.h runtime/*.h runtime/lib/*.h runtime/cli/*.h bench/*.h tests/*/*.h))

MAN_SRCS  := $(sort $(wildcard docs/man/*.scd))
MAN_PAGES := $(MAN_SRCS:docs/man/%.scd=$(BUILD)/man/%)
EXAMPLES  := $(sort $(wildcard docs/examples/*.*))
C_EXAMPLES := $(sort $(wildcard docs/examples/c/*.c))
SCRIPTS   := .ci/run $(sort $(wildcard tests/*.sh tests/*/*.sh bench/*.sh docs/examples/*.sh runtime/completion/*.bash))

# V=1 shows whole command lines.
Q := $(if $(V),,@)
say = @$(if $(or $(V),$(findstring s,$(firstword -$(MAKEFLAGS)))),:,printf '  %-5s %s\n' '$(1)' '$(2)')

# A recursive make that builds with all cores, unless a -j was given and its jobserver serves us already.
SUBMAKE = $(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(JOBS))

# The library: everything but the command line. Only what pawl.h declares is visible, in the static one too.
LIBRARY_OBJS := $(patsubst %.c,$(BUILD)/%.o,$(SHM_SRCS) $(SCHEDULER_SRCS) $(WORKERS_SRCS) $(RUNTIME_SRCS) $(LIB_SRCS))
SONAME       := libpawl.so.0
LIBRARIES    := $(BUILD)/$(SONAME) $(BUILD)/libpawl.a

all: $(BUILD)/pawl
	@[ '$(BUILD)' != build ] || ln -sf build/pawl pawl

help:
	@echo 'make             the tool                make test         all tests (installs what it needs)'
	@echo 'make install     PREFIX=, DESTDIR=       make demo         a real batch, with its result'
	@echo 'make python      the Python package into build/python (PYTHON=/usr/bin/python3 has the headers)'
	@echo 'make lib         libpawl: shared, static, pawl.pc; `make install` lays them down with pawl.h'
	@echo 'make unit        unit tests              make e2e          end-to-end tests; E2E=filter'
	@echo 'make check-stress  stress programs, long make asan, tsan, fuzz  under sanitizers'
	@echo 'make lint        format, tidy, cppcheck  make man          manual pages into build/man'
	@echo 'make bench       measurements            make bench-peers, bench-figures'
	@echo 'make clean       WERROR=1: warnings are errors; V=1: whole command lines'

# --- building -------------------------------------------------------------------------------------------------

# Rewritten when compiler or flags change, so that objects never mix two ways of building. AS_BUILT=1: what is built
# stays as it is, whatever the flags would be now; the tests install so, since they do not know them.
$(BUILD)/flags: $(if $(AS_BUILT),,FORCE)
	@mkdir -p $(@D)
	@printf '%s\n' "$$PAWL_BUILD_FLAGS" | cmp -s - $@ || printf '%s\n' "$$PAWL_BUILD_FLAGS" >$@
$(BUILD)/flags: export PAWL_BUILD_FLAGS := $(FLAGS)

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(PAWL_CFLAGS) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/rooms.a: $(ROOM_OBJS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

lib: $(LIBRARIES)

$(BUILD)/$(SONAME): $(LIBRARY_OBJS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,-soname,$(SONAME) -Wl,-z,defs -o $@ $^ $(PAWL_LIBS) -pthread

$(BUILD)/libpawl.a: $(LIBRARY_OBJS)
	$(call say,AR,$@)
	$(Q)$(LD) -r -o $(BUILD)/libpawl.o $^
	$(Q)objcopy --localize-hidden $(BUILD)/libpawl.o
	@rm -f $@
	$(Q)$(AR) rcs $@ $(BUILD)/libpawl.o

$(BUILD)/sim.a: $(SIM_OBJS)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

# All of the library, and visible: plugins that the tool loads may call any function of pawl.h.
$(BUILD)/pawl: $(TOOL_OBJS) $(LIB_SRCS:%.c=$(BUILD)/%.o) $(BUILD)/rooms.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -rdynamic -o $@ $^ $(TOOL_LIBS)

# What Criterion's macros become takes most of its time to optimize, twice so with sanitizers, and runs once.
$(UNIT_OBJS): override CFLAGS += -O0 -U_FORTIFY_SOURCE

$(BUILD)/unit: $(UNIT_OBJS) $(BUILD)/sim.a $(BUILD)/rooms.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PAWL_LIBS) -lcriterion

$(BUILD)/tests/stress/%: $(BUILD)/tests/stress/%.o $(BUILD)/sim.a $(BUILD)/rooms.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(PAWL_LIBS) -pthread

# The Python package as it is imported: PYTHONPATH=$(BUILD)/python. Of the stable ABI: one build serves every python3.
PYTHON    ?= /usr/bin/python3
PY_SRCS   := $(sort $(wildcard runtime/python/ext/*.c))
PY_OBJS   := $(PY_SRCS:%.c=$(BUILD)/%.o)
PY_FILES  := $(sort $(wildcard runtime/python/pawl/*.py runtime/python/pawl/*.pyi runtime/python/pawl/py.typed))
PY_MODULE := $(BUILD)/python/pawl/_pawl.abi3.so
PY_COPIES := $(PY_FILES:runtime/python/%=$(BUILD)/python/%)

python:
	@sh tests/bootstrap.sh build python
	@$(SUBMAKE) python-build

python-build: $(PY_MODULE) $(PY_COPIES)

PY_INCLUDE = -I$(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)
$(PY_OBJS): PAWL_CFLAGS += $(PY_INCLUDE)

$(PY_MODULE): $(PY_OBJS) $(BUILD)/libpawl.a
	@mkdir -p $(@D)
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -shared -Wl,--exclude-libs,ALL -o $@ $^ $(PAWL_LIBS) -pthread

$(BUILD)/python/%: runtime/python/%
	@mkdir -p $(@D)
	$(Q)cp $< $@

man: $(MAN_PAGES)

# Of what `make install` needs, the one thing that building does not.
scdoc:
	@command -v scdoc >/dev/null || sh tests/bootstrap.sh docs

$(BUILD)/man/%: docs/man/%.scd | scdoc
	@mkdir -p $(@D)
	$(Q)scdoc <$< >$@.tmp && mv $@.tmp $@

# The linker finds libraries by a list of its own. What is laid below a DESTDIR is a package's, which does this later.
tell_linker = @[ -n '$(DESTDIR)' ] || [ "$$(id -u)" -ne 0 ] || PATH="$$PATH:/usr/sbin:/sbin" ldconfig || :

install: all lib man
	install -d '$(DESTDIR)$(PREFIX)/bin' '$(DESTDIR)$(PREFIX)/share/man/man1' '$(DESTDIR)$(PREFIX)/share/man/man5' \
		'$(DESTDIR)$(PREFIX)/share/bash-completion/completions' '$(DESTDIR)$(PREFIX)/share/zsh/site-functions' \
		'$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d' '$(DESTDIR)$(PREFIX)/share/doc/pawl/examples/c' \
		'$(DESTDIR)$(PREFIX)/include' '$(DESTDIR)$(PREFIX)/lib/pkgconfig' '$(DESTDIR)$(PREFIX)/share/man/man3'
	install -m 755 $(BUILD)/pawl '$(DESTDIR)$(PREFIX)/bin/pawl'
	install -m 644 $(filter %.1,$(MAN_PAGES)) '$(DESTDIR)$(PREFIX)/share/man/man1'
	install -m 644 $(filter %.5,$(MAN_PAGES)) '$(DESTDIR)$(PREFIX)/share/man/man5'
	install -m 644 $(filter %.3,$(MAN_PAGES)) '$(DESTDIR)$(PREFIX)/share/man/man3'
	@cd '$(DESTDIR)$(PREFIX)/share/man/man3' && for page in $(notdir $(filter %.3,$(MAN_PAGES))); do \
		sed -n '/^# NAME/{n;n;s/ - .*//;s/,//g;p;q;}' '$(CURDIR)/docs/man/'$$page.scd | tr ' ' '\n' | while read -r name; do \
			[ "$$name.3" = "$$page" ] || ln -sf "$$page" "$$name.3"; done; done
	install -m 644 runtime/pawl.h '$(DESTDIR)$(PREFIX)/include/pawl.h'
	install -m 755 $(BUILD)/$(SONAME) '$(DESTDIR)$(PREFIX)/lib/$(SONAME)'
	ln -sf $(SONAME) '$(DESTDIR)$(PREFIX)/lib/libpawl.so'
	install -m 644 $(BUILD)/libpawl.a '$(DESTDIR)$(PREFIX)/lib/libpawl.a'
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' runtime/lib/pawl.pc.in \
		>'$(DESTDIR)$(PREFIX)/lib/pkgconfig/pawl.pc' && chmod 644 '$(DESTDIR)$(PREFIX)/lib/pkgconfig/pawl.pc'
	install -m 644 runtime/completion/pawl.bash '$(DESTDIR)$(PREFIX)/share/bash-completion/completions/pawl'
	install -m 644 runtime/completion/pawl.zsh '$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_pawl'
	install -m 644 runtime/completion/pawl.fish '$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pawl.fish'
	install -m 644 README.md CHANGELOG.md LICENSE docs/*.md '$(DESTDIR)$(PREFIX)/share/doc/pawl'
	install -d '$(DESTDIR)$(PREFIX)/share/doc/pawl/systemd'
	install -m 644 docs/systemd/pawl.service docs/systemd/pawl.socket '$(DESTDIR)$(PREFIX)/share/doc/pawl/systemd'
	install -m 644 $(EXAMPLES) '$(DESTDIR)$(PREFIX)/share/doc/pawl/examples'
	install -m 644 $(C_EXAMPLES) '$(DESTDIR)$(PREFIX)/share/doc/pawl/examples/c'
	$(tell_linker)

# --- proving ---------------------------------------------------------------------------------------------------
# `test` and `demo` start on a machine that may have no compiler yet, so nothing above is trusted until the
# packages are there: each installs, then calls make again.

test:
	@sh tests/bootstrap.sh build test docs python
	@$(SUBMAKE) all lib man $(BUILD)/unit stress-build python-build
	@PYTHON='$(PYTHON)' bash tests/run.sh $(BUILD)

demo:
	@sh tests/bootstrap.sh build
	@[ -e '$(BUILD)/pawl' ] || echo 'building pawl: half a minute or so'
	@$(SUBMAKE) --quiet all
	@sh tests/demo.sh $(BUILD)/pawl

unit: $(BUILD)/unit
	$(BUILD)/unit

# PYTEST='-k name'
python-test: all lib python
	@PAWL_BIN=$(BUILD)/pawl PYTHONPATH=$(BUILD)/python $(PYTHON) -m pytest -q -p no:cacheprovider $(PYTEST) tests/python

e2e: all lib
	@bash tests/e2e/run.sh $(E2E)

stress-build: $(STRESS_BINS)

check-stress: stress-build
	@PAWL_STRESS_SECONDS=$${PAWL_STRESS_SECONDS:-60} bash tests/run.sh --only stress $(BUILD)

asan:
	@$(SUBMAKE) BUILD=build-asan SANITIZE=address,undefined build-asan/unit stress-build
	@bash tests/run.sh --only 'unit stress' build-asan

tsan:
	@$(SUBMAKE) BUILD=build-tsan SANITIZE=thread stress-build
	@bash tests/run.sh --only stress build-tsan

# libFuzzer is clang's: everything is built once more with it.
fuzz:
	@sh tests/bootstrap.sh fuzz
	@$(SUBMAKE) BUILD=build-fuzz CC=clang-14 SANITIZE=address,undefined,fuzzer-no-link fuzz-run

FUZZ_BINS := $(FUZZ_SRCS:%.c=$(BUILD)/%)
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/rooms.a
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) -fsanitize=fuzzer,address,undefined -o $@ $^ $(PAWL_LIBS)

fuzz-run: $(FUZZ_BINS)
	@for program in $(FUZZ_BINS); do \
		mkdir -p $$program.corpus && echo "== $$program" && \
		$$program -max_total_time=$${FUZZ_SECONDS:-30} -artifact_prefix=$$program- $$program.corpus || exit 1; \
	done

lint:
	@$(SUBMAKE) --output-sync=target lint-format lint-scripts lint-cppcheck lint-tidy
	@echo 'lint: clean'

lint-format:
	@$(CLANG_FORMAT) --dry-run -Werror $(ALL_SRCS) $(ALL_HDRS) $(PY_SRCS) runtime/python/ext/ext.h

format:
	@$(CLANG_FORMAT) -i $(ALL_SRCS) $(ALL_HDRS) $(PY_SRCS) runtime/python/ext/ext.h

# The analyzer gives up on a function after so many states, a third of its default: that is most of its time, spent
# on a few functions with many paths.
TIDY_BUDGET := $(addprefix --extra-arg=,-Xclang -analyzer-config -Xclang max-nodes=75000)

lint-tidy:
	@printf '%s\n' $(filter-out $(PEERS_ABSENT),$(ALL_SRCS)) | xargs -P $(JOBS) -n 4 sh -c '$(CLANG_TIDY) --quiet $(TIDY_BUDGET) "$$@" -- -std=c11 \
		-D_GNU_SOURCE -DPAWL_VERSION=\"$(VERSION)\" -I. 2>/dev/null' tidy
	@$(CLANG_TIDY) --quiet $(TIDY_BUDGET) $(PY_SRCS) -- -std=c11 -D_GNU_SOURCE -I. $(PY_INCLUDE) 2>/dev/null

lint-cppcheck:
	@mkdir -p $(BUILD)/cppcheck
	@cppcheck --quiet -j $(JOBS) --cppcheck-build-dir=$(BUILD)/cppcheck --std=c11 -I. -D_GNU_SOURCE -D__linux__ --library=tests/cppcheck.xml \
		--enable=warning,performance,portability --inline-suppr --error-exitcode=1 --suppress=uninitvar \
		$(ROOM_SRCS) $(MAIN_SRCS) $(BENCH_SRCS) $(PEERS_SRCS) $(SIM_SRCS) $(STRESS_SRCS)
	@cppcheck --quiet --std=c11 -I. -D_GNU_SOURCE -D__linux__ --library=python --enable=warning,performance,portability \
		--inline-suppr --error-exitcode=1 --suppress=uninitvar $(PY_SRCS)

# gt() of Debian 12's Criterion passes on equal values: ge(x, 1), or not(le(a, b)).
lint-scripts:
	@! grep -nE '[^a-z_]gt\(' tests/unit/*.[ch]
	@shellcheck -x $(SCRIPTS)
	@zsh -n runtime/completion/pawl.zsh
	@fish --no-execute runtime/completion/pawl.fish

bench: all
	@bash bench/run.sh $(BUILD)/pawl

bench-python: python
	@PYTHONPATH=$(BUILD)/python $(PYTHON) bench/python_bus.py

bench-figures: all python
	@bash bench/figures.sh $(BUILD)/pawl $(BUILD)/python

bench-peers: all $(BUILD)/peers_bus
	@bash bench/peers.sh $(BUILD)/pawl $(BUILD)/peers_bus

# Nobody else has to wait for the compiler to look.
ifneq ($(filter bench-peers $(BUILD)/peers_bus,$(MAKECMDGOALS)),)
PEERS := $(filter-out $(PEERS_ABSENT),$(PEERS_SRCS))
endif

# Linked again when a library came or went.
$(BUILD)/peers: FORCE
	@mkdir -p $(@D)
	@echo '$(PEERS)' | cmp -s - $@ || echo '$(PEERS)' >$@

$(BUILD)/peers_bus: $(PEERS:%.c=$(BUILD)/%.o) $(BUILD)/bench/bench_support.o $(BUILD)/shm/clock.o $(BUILD)/peers
	$(call say,LINK,$@)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(PEERS_LIBS)

clean:
	rm -rf build build-asan build-tsan build-fuzz pawl runtime/python/build runtime/python/*.egg-info

FORCE:
.PHONY: all help lib python python-build python-test man scdoc install test demo unit e2e stress-build check-stress asan tsan fuzz fuzz-run lint format lint-format lint-tidy \
	lint-cppcheck lint-scripts bench bench-python bench-figures bench-peers clean objects FORCE
# Named somewhere, they are no intermediate files of pattern rules: those are deleted, and not made again for what is newer.
objects: $(STRESS_OBJS) $(FUZZ_SRCS:%.c=$(BUILD)/%.o)
-include $(PEERS_SRCS:%.c=$(BUILD)/%.d) $(PY_OBJS:.o=.d) $(FUZZ_SRCS:%.c=$(BUILD)/%.d) $(ROOM_OBJS:.o=.d) $(TOOL_OBJS:.o=.d) $(UNIT_OBJS:.o=.d) $(SIM_OBJS:.o=.d) $(STRESS_OBJS:.o=.d)
