/*
 * journal_support.h - what the journal's tests share: a directory, what a recovery handed over, records whose
 * bytes follow from their number, and a disk that can be made to fail.
 */
#ifndef PAWL_TESTS_JOURNAL_SUPPORT_H
#define PAWL_TESTS_JOURNAL_SUPPORT_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "scheduler/journal.h"
#include "shm/error.h"
#include "tests/unit/io_kinds.h"

enum { TEST_LSN_MAX = 4096, TEST_BODY_MAX = 40000 };

/* What the journal said. */
struct witness {
    uint64_t durable_lsn;
    int failed;
    int failed_count;
    int room_count;
    enum pawl_journal_room room;
    uint32_t moved_from, moved_to, moved_count; /* on_move(): the last, and how many */
    int snapshot_error;
    int snapshot_count;
    uint64_t last_applied;
    uint64_t applied_count;
    bool disordered;
    bool altered;
    uint64_t loaded_bytes;
    uint64_t loaded_sum;
    uint64_t place[TEST_LSN_MAX];
};

static inline uint32_t body_bytes_of(uint64_t number)
{
    return (uint32_t)(number * 7919 % 300 + (number % 13 == 0 ? 5000 : 8));
}

/* The body of the record that a test appends as its @number-th: the number, then bytes that follow from it.
 */
static inline void fill_body(uint8_t *body, uint64_t number, uint32_t bytes)
{
    memcpy(body, &number, 8);
    for (uint32_t i = 8; i < bytes; i++)
        body[i] = (uint8_t)(number * 31 + i);
}

static inline int on_apply(void *ctx, const struct pawl_record *record, uint64_t place)
{
    struct witness *witness = ctx;
    static uint8_t expected[TEST_BODY_MAX];
    uint64_t number = 0;
    if (record->body_bytes >= 8)
        memcpy(&number, record->body, 8);
    fill_body(expected, number, record->body_bytes);
    if (record->body_bytes < 8 || memcmp(expected, record->body, record->body_bytes) != 0)
        witness->altered = true;
    if (number <= witness->last_applied)
        witness->disordered = true;
    witness->last_applied = number;
    witness->applied_count++;
    if (number < TEST_LSN_MAX)
        witness->place[number] = place;
    return 0;
}

static inline int on_load(void *ctx, uint64_t lsn, const void *chunk, size_t bytes)
{
    struct witness *witness = ctx;
    (void)lsn;
    witness->loaded_bytes += bytes;
    for (size_t i = 0; i < bytes; i++)
        witness->loaded_sum += ((const uint8_t *)chunk)[i];
    return 0;
}

static inline void on_durable(void *ctx, uint64_t lsn)
{
    ((struct witness *)ctx)->durable_lsn = lsn;
}

static inline void on_failed(void *ctx, int error)
{
    ((struct witness *)ctx)->failed = error;
    ((struct witness *)ctx)->failed_count++;
}

static inline void on_room(void *ctx, enum pawl_journal_room room)
{
    ((struct witness *)ctx)->room = room;
    ((struct witness *)ctx)->room_count++;
}

static inline void on_move(void *ctx, uint32_t from_segment, uint32_t to_segment)
{
    struct witness *witness = ctx;
    witness->moved_from = from_segment;
    witness->moved_to = to_segment;
    witness->moved_count++;
}

static inline void on_snapshot(void *ctx, uint64_t lsn, int error)
{
    (void)lsn;
    ((struct witness *)ctx)->snapshot_error = error;
    ((struct witness *)ctx)->snapshot_count++;
}

static inline struct pawl_journal_options options_of(struct witness *witness)
{
    return (struct pawl_journal_options){
        .ctx = witness,
        .apply = on_apply,
        .load_snapshot = on_load,
        .on_durable = on_durable,
        .on_failed = on_failed,
        .on_room = on_room,
        .on_move = on_move,
        .on_snapshot = on_snapshot,
        .segment_bytes = 16 << 10,
        .lock_wait_ns = 20000000,
    };
}

/* A directory, and its descriptor. Removed by remove_dir(). */
static inline int new_dir_in(const char *root, char path[static 64])
{
    snprintf(path, 64, "%s/pawl-journal-XXXXXX", root);
    cr_assert(ne(ptr, mkdtemp(path), NULL));
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    cr_assert(ge(int, fd, 0));
    return fd;
}

static inline int new_dir(char path[static 64])
{
    return new_dir_in("/tmp", path);
}

static inline void clear_dir(int dir_fd)
{
    DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.')
            unlinkat(dir_fd, entry->d_name, 0);
    closedir(dir);
}

static inline void remove_dir(int dir_fd, const char *path)
{
    clear_dir(dir_fd);
    close(dir_fd);
    rmdir(path);
}

/* Appends the records @from to @to, one batch each. */
static inline void append_numbers(struct pawl_journal *journal, uint64_t from, uint64_t to)
{
    static uint8_t body[TEST_BODY_MAX];
    for (uint64_t number = from; number <= to; number++) {
        struct iovec iov = {body, body_bytes_of(number)};
        fill_body(body, number, body_bytes_of(number));
        cr_assert(eq(int, pawl_journal_append(journal, 7, 1, &iov, 1, NULL, NULL), 0));
        pawl_journal_cut(journal);
    }
}

/* Appends and waits: one frame each. */
static inline void commit_numbers(struct pawl_journal *journal, uint64_t from, uint64_t to)
{
    for (uint64_t number = from; number <= to; number++) {
        append_numbers(journal, number, number);
        cr_assert(eq(int, pawl_journal_sync(journal), 0));
    }
}

static inline uint64_t size_of(int dir_fd, const char *name)
{
    struct stat st;
    return fstatat(dir_fd, name, &st, 0) == 0 ? (uint64_t)st.st_size : 0;
}

static inline bool exists(int dir_fd, const char *name)
{
    return faccessat(dir_fd, name, F_OK, 0) == 0;
}

static inline void patch(int dir_fd, const char *name, uint64_t byte_offset, const void *bytes, size_t count)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CLOEXEC);
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(i64, pwrite(fd, bytes, count, (off_t)byte_offset), (int64_t)count));
    fsync(fd);
    close(fd);
}

static inline void flip_bit(int dir_fd, const char *name, uint64_t byte_offset, unsigned bit)
{
    int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    cr_assert(ge(int, fd, 0));
    cr_assert(eq(i64, pread(fd, &byte, 1, (off_t)byte_offset), 1));
    byte ^= (uint8_t)(1u << bit);
    cr_assert(eq(i64, pwrite(fd, &byte, 1, (off_t)byte_offset), 1));
    fsync(fd);
    close(fd);
}

#endif
