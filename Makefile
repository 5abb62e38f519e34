# pawl: one Makefile, objects under build/, generated dependencies.
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
CFLAGS  ?= -O2 -g
BUILD   ?= build
VERSION := 0.1.0

PAWL_CFLAGS := -std=c11 -D_GNU_SOURCE -DPAWL_VERSION='"$(VERSION)"' -I. -Wall -Wextra -Wshadow \
	-Wswitch-enum -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -fPIC -fvisibility=hidden -MMD -MP
ifdef WERROR
PAWL_CFLAGS += -Werror
endif
PAWL_LIBS := -luring -lfyaml -ljansson -lxxhash -lm
TOOL_LIBS := -ljemalloc $(PAWL_LIBS)

SHM_SRCS       := $(sort $(wildcard shm/*.c))
SCHEDULER_SRCS := $(sort $(wildcard scheduler/*.c))
WORKERS_SRCS   := $(sort $(wildcard workers/*.c))
RUNTIME_SRCS   := $(sort $(wildcard runtime/*.c))
CLI_SRCS       := $(sort $(wildcard runtime/cli/*.c))
BENCH_SRCS     := $(sort $(wildcard bench/*.c))
UNIT_SRCS      := $(sort $(wildcard tests/unit/*.c))
STRESS_SRCS    := $(sort $(wildcard tests/stress/*.c))

ROOM_SRCS := $(SHM_SRCS) $(SCHEDULER_SRCS) $(WORKERS_SRCS) $(RUNTIME_SRCS)
ROOM_OBJS := $(ROOM_SRCS:%.c=$(BUILD)/%.o)
TOOL_OBJS := $(ROOM_OBJS) $(CLI_SRCS:%.c=$(BUILD)/%.o) $(BENCH_SRCS:%.c=$(BUILD)/%.o)
UNIT_OBJS := $(UNIT_SRCS:%.c=$(BUILD)/%.o)
STRESS_BINS := $(STRESS_SRCS:%.c=$(BUILD)/%)

all: $(BUILD)/pawl
	@ln -sf $(BUILD)/pawl pawl

$(BUILD)/pawl: $(TOOL_OBJS)
	$(CC) $(LDFLAGS) -o $@ $^ $(TOOL_LIBS)

$(BUILD)/unit: $(UNIT_OBJS) $(ROOM_OBJS)
	$(CC) $(LDFLAGS) -o $@ $^ $(PAWL_LIBS) -lcriterion

$(BUILD)/tests/stress/%: $(BUILD)/tests/stress/%.o $(ROOM_OBJS)
	$(CC) $(LDFLAGS) -o $@ $^ $(PAWL_LIBS)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(PAWL_CFLAGS) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

unit: $(BUILD)/unit
	$(BUILD)/unit

clean:
	rm -rf $(BUILD) pawl

.PHONY: all unit clean
-include $(TOOL_OBJS:.o=.d) $(UNIT_OBJS:.o=.d) $(STRESS_SRCS:%.c=$(BUILD)/%.d)
