/*
 * fork.c - what a forked child inherits of handles: it may not use them, and keeps nobody from seeing them
 * end.
 *
 * Runs in: the program that uses pawl.h, and whatever is forked from it. A socket is closed when its last
 * copy is: were the child's left open, a program that dies would look alive to the scheduler as long as its
 * child lives, and what it held would be nobody else's.
 */
#include "runtime/lib/lib.h"

#include <pthread.h>
#include <unistd.h>

/* Counted in the child: a handle made before is not its to use. getpid() would be a system call each time. */
uint32_t pawl_lib_fork_count;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct pawl *handles; /* of this process, and those that it inherited and has not closed */

static void lock(void)
{
    (void)pthread_mutex_lock(&mutex);
}

static void unlock(void)
{
    (void)pthread_mutex_unlock(&mutex);
}

/* Another thread of the parent may have been in any of them: only numbers are looked at. */
static void in_child(void)
{
    pawl_lib_fork_count++;
    for (struct pawl *pawl = handles; pawl; pawl = pawl->older) {
        if (pawl->wire.fd >= 0)
            close(pawl->wire.fd);
        pawl->wire.fd = -1;
    }
    unlock();
}

static void watch_forks(void)
{
    (void)pthread_atfork(lock, unlock, in_child);
}

uint32_t pawl_lib_forks(void)
{
    (void)pthread_once(&once, watch_forks);
    return pawl_lib_fork_count;
}

void pawl_lib_handle_made(struct pawl *pawl)
{
    pawl->forks = pawl_lib_forks();
    lock();
    pawl->older = handles;
    if (handles)
        handles->newer = pawl;
    handles = pawl;
    unlock();
}

void pawl_lib_handle_gone(struct pawl *pawl)
{
    lock();
    if (pawl->older)
        pawl->older->newer = pawl->newer;
    if (pawl->newer)
        pawl->newer->older = pawl->older;
    else if (handles == pawl)
        handles = pawl->older;
    unlock();
}
