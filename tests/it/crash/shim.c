/*
 * Preloaded into hearthd by the crash tests: kills it at an exact point, fails its system calls,
 * and keeps a copy of the store that holds only what was synced, as a disk does when power is lost.
 *
 * The product has no hooks: it is told apart by what it writes to its log and to its store.
 * Everything is set in the environment; numbers count from 1.
 *
 *   SHIM_STORE=FILE       the store. Its folder must hold nothing else whose name begins like it.
 *   SHIM_LINE=TEXT        counting begins, and with SHIM_KILL=line it is killed, ...
 *   SHIM_LINE_COUNT=N     ... when the Nth line with this text was written to standard error.
 *   SHIM_KILL=line        see above
 *   SHIM_KILL=paused-line the same, after a pause
 *   SHIM_KILL=write:N     before the Nth write to the store
 *   SHIM_KILL=page:N      before the Nth write to the store's main file: only checkpoints do that
 *   SHIM_KILL=sync:N      before the Nth sync of the store
 *   SHIM_KILL=synced:N    after it
 *   SHIM_FAIL=sync:N      the Nth sync of the store fails with EIO
 *   SHIM_FAIL=main:N      the Nth sync of its main file does, which ends a checkpoint
 *   SHIM_FULL=FILE        writes to the store fail with ENOSPC while this file exists
 *   SHIM_SYNCED=FOLDER    where the copy is kept
 *   SHIM_CLOCK=SECONDS    the wall clock is that far ahead (behind, if negative), with or without a
 *   SHIM_CLOCK_SET=FILE   store, until this file exists: then somebody has set it
 *
 * All kills but that at a line come after a pause, in which the thread stands and the others go on:
 * an ack that was handed over too soon leaves in it.
 *
 * The copy: FOLDER/INODE holds what was synced of a file, FOLDER/names/NAME are hard links to
 * these: the names that the store's folder had when it was synced. The -shm file is memory, and
 * never kept. The tests make the folders, and put what is there at the start into them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Acks leave every 100 ms. */
#define PAUSE_US 250000

static const char *store;   /* NULL: do nothing at all */
static const char *name;    /* its last part */
static const char *line;    /* NULL: counting began at the start */
static const char *full;    /* NULL: never */
static const char *synced;  /* NULL: no copy is kept */
static const char *clock_set; /* NULL: never */
static time_t clock_ahead;
static char folder[PATH_MAX];
static atomic_long lines_left;
static bool kill_at_line, pause_first;
/* 0: never; what else counts down, from the moment that `counting` is true. */
static atomic_long kill_at_write, kill_at_page, kill_at_sync, kill_at_synced;
static atomic_long fail_at_sync, fail_at_main;
static atomic_bool counting;
static pthread_mutex_t copying = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what) {
    char text[PATH_MAX + 64];
    int length = snprintf(text, sizeof text, "shim: %s: %s\n", what, strerror(errno));
    syscall(SYS_write, STDERR_FILENO, text, (size_t)length);
    abort();
}

/* A path below a folder. */
static void join(char path[PATH_MAX], const char *below, const char *part) {
    if (snprintf(path, PATH_MAX, "%s/%s", below, part) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        die(part);
    }
}

static void kill_now(void) {
    if (pause_first) usleep(PAUSE_US);
    syscall(SYS_kill, getpid(), SIGKILL);
    /* Other threads may end first; this one must not go on. */
    for (;;) pause();
}

/* True for the one call that brings the counter to its end. */
static bool is_due(atomic_long *counter) {
    return atomic_load(&counting) && atomic_load(counter) > 0
        && atomic_fetch_sub(counter, 1) == 1;
}

/* The path that an open file has now; empty if it has none. */
static void path_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = '\0';
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* True for the names of the store's files that hold anything, whole paths or not. */
static bool is_store_file(const char *path, const char *prefix) {
    return strncmp(path, prefix, strlen(prefix)) == 0 && !ends_with(path, "-shm")
        && !ends_with(path, ".lock") && !ends_with(path, ".ballast")
        && !ends_with(path, ".sock");
}

/* ── the copy ─────────────────────────────────────────────────────────────────────────────────── */

static void copy_path(ino_t inode, char path[PATH_MAX]) {
    char number[32];
    snprintf(number, sizeof number, "%ju", (uintmax_t)inode);
    join(path, synced, number);
}

/* The file, readable. If it is, it isn't opened anew: to close that would drop SQLite's locks. */
static int readable(int fd) {
    char link[64];
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY) return fd;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int original = open(link, O_RDONLY | O_CLOEXEC);
    if (original < 0) die(link);
    return original;
}

/* What is in the file now survives. */
static void sync_content(int fd) {
    struct stat status;
    char path[PATH_MAX];
    if (fstat(fd, &status) != 0) die("fstat");
    copy_path(status.st_ino, path);
    int copy = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (copy < 0) die(path);
    int original = readable(fd);
    off_t offset = 0;
    while (offset < status.st_size) {
        ssize_t sent = sendfile(copy, original, &offset, (size_t)(status.st_size - offset));
        if (sent < 0) die("sendfile");
        if (sent == 0) break;
    }
    if (syscall(SYS_ftruncate, copy, offset) != 0) die("ftruncate");
    close(copy);
    if (original != fd) close(original);
}

/* A file that was never synced may survive its name: then it is empty. */
static void sync_name(const char *of) {
    char path[PATH_MAX], copy[PATH_MAX], names[PATH_MAX], link_path[PATH_MAX], draft[PATH_MAX];
    struct stat status;
    join(path, folder, of);
    if (stat(path, &status) != 0) return; /* it is gone already */
    copy_path(status.st_ino, copy);
    int made = open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (made < 0) die(copy);
    close(made);
    join(names, synced, "names");
    join(link_path, names, of);
    join(draft, synced, "draft");
    syscall(SYS_unlink, draft);
    if (link(copy, draft) != 0) die(draft);
    /* Leaves both where they are one file already. */
    if (syscall(SYS_rename, draft, link_path) != 0) die(link_path);
    syscall(SYS_unlink, draft);
}

/* The names that the folder has now survive, and no others. */
static void sync_names(void) {
    char names[PATH_MAX], path[PATH_MAX];
    struct dirent *entry;
    DIR *real = opendir(folder);
    if (real == NULL) die(folder);
    while ((entry = readdir(real)) != NULL)
        if (is_store_file(entry->d_name, name)) sync_name(entry->d_name);
    closedir(real);
    join(names, synced, "names");
    DIR *kept = opendir(names);
    if (kept == NULL) die(names);
    while ((entry = readdir(kept)) != NULL) {
        join(path, folder, entry->d_name);
        if (entry->d_name[0] != '.' && access(path, F_OK) != 0) {
            join(path, names, entry->d_name);
            syscall(SYS_unlink, path);
        }
    }
    closedir(kept);
}

/* ── the calls ────────────────────────────────────────────────────────────────────────────────── */

static void watch_log(const void *bytes, size_t size) {
    if (line == NULL || memmem(bytes, size, line, strlen(line)) == NULL) return;
    if (atomic_fetch_sub(&lines_left, 1) != 1) return;
    atomic_store(&counting, true);
    if (kill_at_line) kill_now();
}

/* False with an error set if this write must fail. */
static bool may_write(int fd) {
    char path[PATH_MAX];
    if (store == NULL) return true;
    path_of(fd, path);
    if (!is_store_file(path, store)) return true;
    if (is_due(&kill_at_write)) kill_now();
    if (strcmp(path, store) == 0 && is_due(&kill_at_page)) kill_now();
    if (full != NULL && access(full, F_OK) == 0) {
        errno = ENOSPC;
        return false;
    }
    return true;
}

static int sync_file(int fd, long call) {
    char path[PATH_MAX];
    if (store == NULL) return (int)syscall(call, fd);
    path_of(fd, path);
    bool is_folder = strcmp(path, folder) == 0;
    if (!is_folder && !is_store_file(path, store)) return (int)syscall(call, fd);
    if (is_due(&kill_at_sync)) kill_now();
    if (is_due(&fail_at_sync) || (strcmp(path, store) == 0 && is_due(&fail_at_main))) {
        static const char note[] = "shim: a sync fails\n";
        syscall(SYS_write, STDERR_FILENO, note, sizeof note - 1);
        errno = EIO;
        return -1;
    }
    int result = (int)syscall(call, fd);
    if (result == 0 && synced != NULL) {
        pthread_mutex_lock(&copying);
        if (is_folder) sync_names();
        else sync_content(fd);
        pthread_mutex_unlock(&copying);
    }
    if (is_due(&kill_at_synced)) kill_now();
    return result;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    if (fd != STDERR_FILENO && !may_write(fd)) return -1;
    ssize_t result = syscall(SYS_write, fd, bytes, size);
    if (fd == STDERR_FILENO) watch_log(bytes, size);
    return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
    if (!may_write(fd)) return -1;
    return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

int fsync(int fd) { return sync_file(fd, SYS_fsync); }

int fdatasync(int fd) { return sync_file(fd, SYS_fdatasync); }

/* An inode's number is soon used again: what was synced of this one must not pass for the next. */
int unlink(const char *path) {
    struct stat status;
    if (store != NULL && synced != NULL && is_store_file(path, store)
        && stat(path, &status) == 0) {
        char copy[PATH_MAX];
        pthread_mutex_lock(&copying);
        copy_path(status.st_ino, copy);
        syscall(SYS_unlink, copy);
        pthread_mutex_unlock(&copying);
    }
    return (int)syscall(SYS_unlink, path);
}

/* ── the clock ────────────────────────────────────────────────────────────────────────────────── */

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, id, now);
    bool is_wall = id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE;
    if (result != 0 || !is_wall || clock_ahead == 0) return result;
    if (clock_set == NULL || access(clock_set, F_OK) != 0) now->tv_sec += clock_ahead;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec exact;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return result;
}

time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now != NULL) *now = exact.tv_sec;
    return exact.tv_sec;
}

/* ── the settings ─────────────────────────────────────────────────────────────────────────────── */

/* Sets a counter if the setting is of this kind. */
static void count_down(const char *setting, const char *kind, atomic_long *counter) {
    size_t length = strlen(kind);
    if (setting != NULL && strncmp(setting, kind, length) == 0 && setting[length] == ':')
        atomic_store(counter, atol(setting + length + 1));
}

__attribute__((constructor)) static void begin(void) {
    const char *ahead = getenv("SHIM_CLOCK");
    if (ahead != NULL) clock_ahead = atol(ahead);
    clock_set = getenv("SHIM_CLOCK_SET");
    store = getenv("SHIM_STORE");
    if (store == NULL) return;
    name = strrchr(store, '/') + 1;
    snprintf(folder, sizeof folder, "%.*s", (int)(name - 1 - store), store);
    line = getenv("SHIM_LINE");
    full = getenv("SHIM_FULL");
    synced = getenv("SHIM_SYNCED");
    const char *count = getenv("SHIM_LINE_COUNT");
    atomic_store(&lines_left, count == NULL ? 1 : atol(count));
    atomic_store(&counting, line == NULL);
    const char *at = getenv("SHIM_KILL");
    pause_first = at == NULL || strcmp(at, "line") != 0;
    kill_at_line = !pause_first || (at != NULL && strcmp(at, "paused-line") == 0);
    count_down(at, "write", &kill_at_write);
    count_down(at, "page", &kill_at_page);
    count_down(at, "sync", &kill_at_sync);
    count_down(at, "synced", &kill_at_synced);
    const char *fail = getenv("SHIM_FAIL");
    count_down(fail, "sync", &fail_at_sync);
    count_down(fail, "main", &fail_at_main);
}
