/*
 * fuzz_journal.c - a start over a journal whose files somebody altered: it never crashes, never hands over a
 * record that was not written, never one out of order.
 *
 *   clang -std=c11 -D_GNU_SOURCE -I. -fsanitize=fuzzer,address,undefined tests/fuzz/fuzz_journal.c \
 *         scheduler/{journal*,snapshot_file,io*,frame,record}.c shm/error.c -luring -lxxhash
 *
 * Input: the first byte chooses. Even: the rest is edits (file, byte offset, byte) of a good journal. Odd:
 * the rest is a frame's records, sealed with a right checksum, so that the checks behind it are reached.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scheduler/frame.h"
#include "scheduler/journal.h"
#include "shm/error.h"

enum { RECORDS = 14, FILES = 5 };
static const char *const names[FILES] = {"00000001.seg", "00000002.seg", "00000003.seg", "snapshot.1",
                                         "snapshot.2"};
static uint8_t *contents[FILES];
static size_t sizes[FILES];
static int dir_fd = -1;
static struct pawl_io *io;
static uint64_t last_number;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take_record(void *ctx, const struct pawl_record *record, uint64_t place)
{
    (void)ctx, (void)place;
    uint64_t number;
    if (record->body_bytes < 8)
        abort();
    memcpy(&number, record->body, 8);
    for (uint32_t i = 8; i < record->body_bytes; i++)
        if (((const uint8_t *)record->body)[i] != (uint8_t)(number + i))
            abort();
    if (number <= last_number || number > RECORDS)
        abort();
    last_number = number;
    return 0;
}

static int same_bytes(void *ctx, void *bytes, size_t count)
{
    (void)ctx;
    static uint8_t seed;
    for (size_t i = 0; i < count; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)(seed += 37);
    return 0;
}

static struct pawl_journal_options options = {.apply = take_record,
                                              .random = same_bytes,
                                              .segment_bytes = 16 << 10,
                                              .recycled_max = UINT32_MAX,
                                              .buffered = true};

static void make_good_journal(void)
{
    struct pawl_journal *journal;
    uint8_t body[900];
    if (pawl_journal_open(io, dir_fd, &options, &journal, NULL) != 0)
        abort();
    for (uint64_t number = 1; number <= RECORDS; number++) {
        memcpy(body, &number, 8);
        for (uint32_t i = 8; i < sizeof body; i++)
            body[i] = (uint8_t)(number + i);
        struct iovec iov = {body, 8 + number * 60};
        if (pawl_journal_append(journal, 7, 1, &iov, 1, NULL, NULL) != 0 || pawl_journal_sync(journal) != 0)
            abort();
        if (number == 2 || number == 4) {
            pawl_journal_snapshot_begin(journal, pawl_journal_last_lsn(journal));
            pawl_journal_snapshot_append(journal, "state", 5);
            pawl_io_wait(io, 0);
            pawl_journal_snapshot_commit(journal);
            while (pawl_io_wait(io, 0) > 0)
                ;
        }
    }
    pawl_journal_close(journal, false);
    for (int i = 0; i < FILES; i++) {
        int fd = openat(dir_fd, names[i], O_RDONLY);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) < 0)
            abort();
        sizes[i] = (size_t)st.st_size;
        contents[i] = malloc(sizes[i]);
        if (read(fd, contents[i], sizes[i]) != (ssize_t)sizes[i])
            abort();
        close(fd);
    }
}

static void set_up(void)
{
    char path[] = "/dev/shm/fuzz-journal-XXXXXX";
    if (!mkdtemp(path) || pawl_io_open(PAWL_IO_SYSCALL, &io) != 0)
        abort();
    dir_fd = open(path, O_RDONLY | O_DIRECTORY);
    make_good_journal();
}

static void try_edits(const uint8_t *data, size_t size)
{
    for (int i = 0; i < FILES; i++) {
        uint8_t *copy = malloc(sizes[i]);
        memcpy(copy, contents[i], sizes[i]);
        for (size_t at = 0; at + 5 <= size; at += 5) {
            uint32_t offset;
            memcpy(&offset, data + at + 1, 3);
            offset &= 0xffffff;
            if (data[at] % FILES == i)
                copy[offset % sizes[i]] = data[at + 4];
        }
        int fd = openat(dir_fd, names[i], O_RDWR | O_CREAT | O_TRUNC, 0600);
        size_t keep = size > 0 && data[0] == i + 200 ? sizes[i] / 2 : sizes[i];
        if (write(fd, copy, keep) != (ssize_t)keep)
            abort();
        close(fd);
        free(copy);
    }
    unlinkat(dir_fd, "00000004.seg", 0);
    unlinkat(dir_fd, "00000005.seg", 0);
    struct pawl_journal *journal;
    struct pawl_journal_report report;
    last_number = 0;
    int error = pawl_journal_open(io, dir_fd, &options, &journal, &report);
    if (error == 0)
        pawl_journal_close(journal, false);
    else if (error != PAWL_E_DAMAGED && error != PAWL_E_BAD_FORMAT)
        abort();
    else if (!report.reason[0])
        abort();
    pawl_journal_verify(dir_fd, NULL, NULL, &report);
}

static void try_frame(const uint8_t *data, size_t size)
{
    struct pawl_segment_header segment = {.number = 1, .base_lsn = 1, .nonce = 7};
    size_t record_bytes = size & ~(size_t)7;
    struct pawl_frame_header header = {.bytes = (uint32_t)pawl_frame_bytes(record_bytes),
                                       .record_bytes = (uint32_t)record_bytes,
                                       .record_count = size > 0 ? data[size - 1] : 0,
                                       .first_lsn = 1,
                                       .nonce = 7,
                                       .byte_offset = 4096};
    uint8_t *bytes = aligned_alloc(4096, header.bytes);
    memset(bytes, 0, header.bytes);
    memcpy(bytes + PAWL_FRAME_HEADER_BYTES, data, record_bytes);
    pawl_frame_seal(bytes, &header, &segment);
    struct pawl_frame_header read;
    if (pawl_frame_unpack(bytes, 4096, &segment, &read))
        pawl_frame_check(bytes, &read, &segment);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (dir_fd < 0)
        set_up();
    if (size == 0)
        return 0;
    if (data[0] % 2)
        try_frame(data + 1, size - 1);
    else
        try_edits(data + 1, size - 1);
    return 0;
}
