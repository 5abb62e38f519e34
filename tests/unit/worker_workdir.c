/*
 * worker_workdir.c - PAWL_DIR is new, empty, and its name is never given twice before a result is durable.
 */
#include "workers/workdir.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static char state[64];
static int state_dirfd;
static struct pawl_workdir workdir;
static char stem[PAWL_WORKDIR_STEM_BYTES];

static void make_state(void)
{
    strcpy(state, "/tmp/pawl-workdir-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(state), NULL));
    state_dirfd = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    pawl_workdir_init(&workdir, state_dirfd);
}

static void remove_state(void)
{
    pawl_workdir_destroy(&workdir);
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", state);
    cr_expect(eq(int, system(command), 0));
}

TestSuite(workdir, .init = make_state, .fini = remove_state, .timeout = 300);

/* Return: the attempt that it became. */
static uint32_t place(const char *step, uint64_t index, uint32_t attempt, uint64_t durable)
{
    cr_assert(eq(int, pawl_workdir_place(&workdir, "r", step, index, &attempt, durable, stem), 0));
    return attempt;
}

static char *path_of(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/runs/r/work/%s", state, name);
    return path;
}

static bool is_there(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

static uint64_t inode_of(const char *name)
{
    struct stat status;
    return stat(path_of(name), &status) == 0 ? status.st_ino : 0;
}

static void put_into(const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "%s/file", path_of(name));
    close(open(path, O_CREAT | O_WRONLY, 0600));
}

Test(workdir, names_hold_the_index_only_when_there_is_one)
{
    place("a", UINT64_MAX, 1, 0);
    cr_expect(eq(str, stem, "a.1"));
    pawl_workdir_leave(&workdir, false);
    place("a", 12, 3, 0);
    cr_expect(eq(str, stem, "a.12.3"));
    cr_expect(is_there("a.12.3"));
}

Test(workdir, name_that_exists_raises_the_attempt)
{
    place("a", UINT64_MAX, 1, 0);
    pawl_workdir_leave(&workdir, false);
    cr_expect(eq(u32, place("a", UINT64_MAX, 1, 0), 2));
    put_into("a.2");
    cr_expect(pawl_workdir_leave(&workdir, false));
    cr_expect(eq(u32, place("a", UINT64_MAX, 1, 0), 3));
    cr_expect(eq(str, stem, "a.3"));
}

Test(workdir, empty_directory_moves_on_only_when_its_result_is_durable)
{
    place("a", UINT64_MAX, 1, 0);
    uint64_t first = inode_of("a.1");
    cr_expect(eq(int, pawl_workdir_leave(&workdir, false), 0));
    place("b", UINT64_MAX, 1, UINT64_MAX); /* its result is not even reported */
    cr_expect(is_there("a.1"));
    pawl_workdir_reported(&workdir, 5);
    cr_expect(eq(int, pawl_workdir_leave(&workdir, false), 0));
    place("c", UINT64_MAX, 1, 5); /* durable up to, not with, position 5 */
    cr_expect(is_there("a.1"));
    pawl_workdir_leave(&workdir, false);
    place("d", UINT64_MAX, 1, 6);
    cr_expect(eq(u64, inode_of("d.1"), first));
    cr_expect(eq(int, is_there("a.1"), 0));
    cr_expect(is_there("b.1"));
}

Test(workdir, reused_directory_that_meets_an_existing_name_raises_the_attempt)
{
    place("a", UINT64_MAX, 1, 0);
    pawl_workdir_leave(&workdir, false);
    pawl_workdir_reported(&workdir, 1);
    mkdir(path_of("b.1"), 0700);
    cr_expect(eq(u32, place("b", UINT64_MAX, 1, 2), 2));
    cr_expect(is_there("b.1"));
    cr_expect(is_there("b.2"));
    cr_expect(eq(int, is_there("a.1"), 0));
}

Test(workdir, directory_with_something_in_it_is_kept)
{
    place("a", UINT64_MAX, 1, 0);
    put_into("a.1");
    cr_expect(pawl_workdir_leave(&workdir, false));
    pawl_workdir_reported(&workdir, 1);
    place("b", UINT64_MAX, 1, 9);
    pawl_workdir_leave(&workdir, false);
    pawl_workdir_reported(&workdir, 2);
    pawl_workdir_fini(&workdir, 9);
    char file[400];
    snprintf(file, sizeof file, "%s/file", path_of("a.1"));
    cr_expect(eq(int, access(file, F_OK), 0));
    cr_expect(eq(int, is_there("b.1"), 0));
}

Test(workdir, directory_that_was_used_and_emptied_is_removed_not_reused)
{
    place("a", UINT64_MAX, 1, 0);
    uint64_t first = inode_of("a.1");
    put_into("a.1");
    char file[400];
    snprintf(file, sizeof file, "%s/file", path_of("a.1"));
    unlink(file);
    cr_expect(eq(int, pawl_workdir_leave(&workdir, false), 0));
    pawl_workdir_reported(&workdir, 1);
    int pin = open(path_of("a.1"), O_RDONLY | O_DIRECTORY); /* so that its inode number stays taken */
    place("b", UINT64_MAX, 1, 9);
    cr_expect(ne(u64, inode_of("b.1"), first));
    cr_expect(eq(int, is_there("a.1"), 0));
    close(pin);
}

Test(workdir, changed_permissions_do_not_reach_the_next_attempt)
{
    place("a", UINT64_MAX, 1, 0);
    chmod(path_of("a.1"), 0500);
    pawl_workdir_leave(&workdir, false);
    pawl_workdir_reported(&workdir, 1);
    place("b", UINT64_MAX, 1, 9);
    struct stat status;
    cr_assert(eq(int, stat(path_of("b.1"), &status), 0));
    cr_expect(eq(int, (int)(status.st_mode & 0777), 0700));
}

Test(workdir, directory_of_a_living_background_process_is_not_reused)
{
    place("a", UINT64_MAX, 1, 0);
    pawl_workdir_leave(&workdir, true);
    pawl_workdir_reported(&workdir, 1);
    place("b", UINT64_MAX, 1, 9);
    cr_expect(is_there("a.1"));
}

Test(workdir, name_that_the_job_removed_still_raises_the_attempt)
{
    place("a", UINT64_MAX, 1, 0);
    rmdir(path_of("a.1"));
    cr_expect(eq(int, pawl_workdir_leave(&workdir, false), 0));
    cr_expect(eq(u32, place("a", UINT64_MAX, 1, 0), 2));
}

Test(workdir, spares_serve_other_runs_and_missing_parents_are_made)
{
    uint32_t attempt = 1;
    place("a", UINT64_MAX, 1, 0);
    uint64_t first = inode_of("a.1");
    pawl_workdir_leave(&workdir, false);
    pawl_workdir_reported(&workdir, 1);
    cr_assert(eq(int, pawl_workdir_place(&workdir, "other", "x", UINT64_MAX, &attempt, 9, stem), 0));
    char path[200];
    struct stat status;
    snprintf(path, sizeof path, "%s/runs/other/work/x.1", state);
    cr_assert(eq(int, stat(path, &status), 0));
    cr_expect(eq(u64, status.st_ino, first));
}

Test(workdir, forgotten_spares_stay_where_they_are)
{
    place("a", UINT64_MAX, 1, 0);
    pawl_workdir_leave(&workdir, false);
    pawl_workdir_reported(&workdir, 1);
    pawl_workdir_forget(&workdir);
    place("b", UINT64_MAX, 1, UINT64_MAX);
    cr_expect(is_there("a.1"));
}

/* Names below runs/r/work. */
static unsigned count_names(void)
{
    unsigned count = 0;
    DIR *directory = opendir(path_of(""));
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return count;
}

Test(workdir, no_directory_stays_behind_however_many_attempts_wait_for_one_sync)
{
    for (uint64_t round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < 500; i++) {
            place("a", round * 500 + i, 1, round * 500);
            pawl_workdir_leave(&workdir, false);
            pawl_workdir_reported(&workdir, round * 500 + i);
        }
        cr_expect(eq(uint, count_names(), 500), "those of the round before moved on");
    }
    pawl_workdir_fini(&workdir, 1000);
    cr_expect(eq(uint, count_names(), 0));
}

Test(workdir, directories_that_somebody_removed_together_with_their_parent_are_made_again)
{
    place("a", UINT64_MAX, 1, 0);
    pawl_workdir_leave(&workdir, false);
    pawl_workdir_reported(&workdir, 1);
    rmdir(path_of("a.1"));
    rmdir(path_of(""));
    cr_expect(eq(u32, place("b", UINT64_MAX, 1, 9), 1));
    cr_expect(is_there("b.1"));
    cr_expect(eq(int, pawl_workdir_leave(&workdir, false), 0));
    cr_expect(eq(u32, place("b", UINT64_MAX, 1, 9), 2), "its name is found in the new one");
}
