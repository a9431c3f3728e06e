/* Preloaded into a process under test: counts the calls that change files below a folder, and lets one of them fail.
 *
 * tests/faults/shim.py compiles it and gives the numbers below their names. Calls are counted in the order in which the
 * process makes them, also across threads. Nothing is counted before `tmkt_fault_arm`.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, RMDIR, OPEN, READ, SYNC_ALL };
enum { COUNT = 0, KILL_BEFORE, KILL_MIDWAY, ERROR_ONCE, ERROR_FROM, KILL_AFTER };

typedef struct {
    uint32_t op, number;
    uint64_t inode, offset;
    uint32_t path_bytes, other_bytes;
    uint64_t data_bytes;
} Record;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static size_t folder_length;
static int kind, error_number, reads, log_fd = -1;
static long at, count;
static int is_armed;
static long injected;

#define REAL(type, name, ...) static type (*real_##name)(__VA_ARGS__); \
    if (!real_##name) real_##name = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static ssize_t raw_write(int fd, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    return real_write(fd, data, size);
}

/* wants_reads: count opening and reading instead of changes; log: file that takes a record of each call, or "". */
void tmkt_fault_arm(const char *below, int fault, int number, long call, int wants_reads, const char *log) {
    folder_length = strlen(below);
    memcpy(folder, below, folder_length + 1);
    kind = fault, error_number = number, at = call, reads = wants_reads, count = 0, injected = 0;
    if (log[0]) {
        REAL(int, open, const char *, int, ...);
        log_fd = real_open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    }
    __atomic_store_n(&is_armed, 1, __ATOMIC_SEQ_CST);
}

long tmkt_fault_disarm(void) { __atomic_store_n(&is_armed, 0, __ATOMIC_SEQ_CST); return injected; }

static int below(const char *path) {
    return strncmp(path, folder, folder_length) == 0 && (path[folder_length] == '/' || path[folder_length] == 0);
}

static int resolve(int dir, const char *path, char *out) {
    if (path[0] == '/') { snprintf(out, PATH_MAX, "%s", path); }
    else {
        char link[64], base[PATH_MAX];
        if (dir == AT_FDCWD) { if (!getcwd(base, sizeof base)) return 0; }
        else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
            ssize_t n = readlink(link, base, sizeof base - 1);
            if (n < 0) return 0;
            base[n] = 0;
        }
        if ((size_t)snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    }
    return below(out);
}

static int of_handle(int fd, char *out, uint64_t *inode) {
    char link[64];
    struct stat found;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, out, PATH_MAX - 1);
    if (n < 0) return 0;
    out[n] = 0;
    if (!below(out) || fstat(fd, &found) || !(S_ISREG(found.st_mode) || S_ISDIR(found.st_mode))) return 0;
    *inode = found.st_ino;
    return 1;
}

static uint64_t inode_of(const char *path) {
    struct stat found;
    return stat(path, &found) ? 0 : found.st_ino;
}

static void record(uint32_t op, const char *path, const char *other, uint64_t inode, uint64_t offset,
                   const void *data, size_t size) {
    if (log_fd < 0) return;
    Record head = {op, (uint32_t)count, inode, offset, strlen(path), strlen(other), size};
    raw_write(log_fd, &head, sizeof head);
    raw_write(log_fd, path, head.path_bytes);
    raw_write(log_fd, other, head.other_bytes);
    for (size_t done = 0; done < size;) {
        ssize_t n = raw_write(log_fd, (const char *)data + done, size - done);
        if (n <= 0) break;
        done += (size_t)n;
    }
}

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

/* Count a call; return 0 to let it go on, 1 to let half of it happen and then die, 2 to die after it, or -1 with errno. */
static int decide(uint32_t op) {
    count++;
    if (kind == COUNT || count < at) return 0;
    if (kind == ERROR_FROM) {
        int takes_space = op == CREATE || op == WRITE || op == MKDIR || op == TRUNCATE || op == SYNC || op == SYNC_ALL;
        if (!takes_space && !reads) return 0;
    } else if (count != at) return 0;
    injected++;
    if (kind == KILL_BEFORE) die();
    if (kind == KILL_MIDWAY) return 1;
    if (kind == KILL_AFTER) return 2;
    errno = error_number;
    return -1;
}

#define ARMED (__atomic_load_n(&is_armed, __ATOMIC_SEQ_CST))
#define FINISH(verdict) do { if ((verdict) > 0) die(); pthread_mutex_unlock(&lock); } while (0)

static ssize_t put(int fd, const void *data, size_t size, off_t offset, int has_offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off_t);
    char path[PATH_MAX];
    uint64_t inode = 0;
    if (!ARMED || reads || fd == log_fd || !of_handle(fd, path, &inode))
        return has_offset ? real_pwrite64(fd, data, size, offset) : raw_write(fd, data, size);
    pthread_mutex_lock(&lock);
    int saved = errno, verdict = decide(WRITE);
    if (verdict < 0) { pthread_mutex_unlock(&lock); return -1; }
    off_t where = has_offset ? offset : fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    size_t part = verdict == 1 ? size / 2 : size;
    ssize_t done = has_offset ? real_pwrite64(fd, data, part, offset) : raw_write(fd, data, part);
    if (done > 0) record(WRITE, path, "", inode, (uint64_t)where, data, (size_t)done);
    saved = done < 0 ? errno : saved;
    FINISH(verdict);
    errno = saved;
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return put(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return put(fd, data, size, offset, 1); }

ssize_t writev(int fd, const struct iovec *parts, int num) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    char path[PATH_MAX];
    uint64_t inode;
    if (!ARMED || reads || !of_handle(fd, path, &inode)) return real_writev(fd, parts, num);
    ssize_t total = 0;
    for (int k = 0; k < num; k++) {
        ssize_t done = put(fd, parts[k].iov_base, parts[k].iov_len, 0, 0);
        if (done < 0) return total ? total : -1;
        total += done;
        if ((size_t)done < parts[k].iov_len) break;
    }
    return total;
}

/* Bytes that the kernel copies would not be seen: those who ask for it have to read and write. */
ssize_t sendfile(int out, int in, off_t *offset, size_t size) {
    REAL(ssize_t, sendfile, int, int, off_t *, size_t);
    if (!ARMED) return real_sendfile(out, in, offset, size);
    errno = EINVAL;
    return -1;
}
ssize_t sendfile64(int out, int in, off_t *offset, size_t size) { return sendfile(out, in, offset, size); }
ssize_t copy_file_range(int in, off_t *in_offset, int out, off_t *out_offset, size_t size, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off_t *, int, off_t *, size_t, unsigned);
    if (!ARMED) return real_copy_file_range(in, in_offset, out, out_offset, size, flags);
    errno = EXDEV;
    return -1;
}

static int on_handle(uint32_t op, int fd, off_t size, int (*sync)(int), int (*cut)(int, off_t)) {
    char path[PATH_MAX];
    uint64_t inode;
    if (!ARMED || reads || !of_handle(fd, path, &inode)) return sync ? sync(fd) : cut(fd, size);
    pthread_mutex_lock(&lock);
    int verdict = decide(op);
    if (verdict < 0) { pthread_mutex_unlock(&lock); return -1; }
    if (verdict == 1) die();
    int done = sync ? sync(fd) : cut(fd, size);
    if (!done) record(op, path, "", inode, (uint64_t)size, NULL, 0);
    FINISH(verdict);
    return done;
}

int fsync(int fd) { REAL(int, fsync, int); return on_handle(SYNC, fd, 0, real_fsync, NULL); }
int fdatasync(int fd) { REAL(int, fdatasync, int); return on_handle(SYNC, fd, 0, real_fdatasync, NULL); }
int syncfs(int fd) { REAL(int, syncfs, int); return on_handle(SYNC_ALL, fd, 0, real_syncfs, NULL); }
int ftruncate(int fd, off_t size) { REAL(int, ftruncate, int, off_t); return on_handle(TRUNCATE, fd, size, NULL, real_ftruncate); }
int ftruncate64(int fd, off_t size) { REAL(int, ftruncate64, int, off_t); return on_handle(TRUNCATE, fd, size, NULL, real_ftruncate64); }

static int on_path(uint32_t op, int dir, const char *path, int flags, mode_t mode) {
    REAL(int, unlinkat, int, const char *, int);
    REAL(int, mkdirat, int, const char *, mode_t);
    char whole[PATH_MAX];
    if (!ARMED || reads || !resolve(dir, path, whole))
        return op == MKDIR ? real_mkdirat(dir, path, mode) : real_unlinkat(dir, path, flags);
    pthread_mutex_lock(&lock);
    int verdict = decide(op);
    if (verdict < 0) { pthread_mutex_unlock(&lock); return -1; }
    if (verdict == 1) die();
    int done = op == MKDIR ? real_mkdirat(dir, path, mode) : real_unlinkat(dir, path, flags), saved = errno;
    if (!done) record(op, whole, "", 0, 0, NULL, 0);
    FINISH(verdict);
    errno = saved;
    return done;
}

int unlink(const char *path) { return on_path(UNLINK, AT_FDCWD, path, 0, 0); }
int rmdir(const char *path) { return on_path(RMDIR, AT_FDCWD, path, AT_REMOVEDIR, 0); }
int remove(const char *path) { return on_path(UNLINK, AT_FDCWD, path, 0, 0); }
int unlinkat(int dir, const char *path, int flags) {
    return on_path(flags & AT_REMOVEDIR ? RMDIR : UNLINK, dir, path, flags, 0);
}
int mkdir(const char *path, mode_t mode) { return on_path(MKDIR, AT_FDCWD, path, 0, mode); }
int mkdirat(int dir, const char *path, mode_t mode) { return on_path(MKDIR, dir, path, 0, mode); }

int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    char source[PATH_MAX], target[PATH_MAX];
    if (!ARMED || reads || !resolve(from_dir, from, source) || !resolve(to_dir, to, target))
        return real_renameat(from_dir, from, to_dir, to);
    pthread_mutex_lock(&lock);
    int verdict = decide(RENAME);
    if (verdict < 0) { pthread_mutex_unlock(&lock); return -1; }
    if (verdict == 1) die();
    uint64_t inode = inode_of(source);
    int done = real_renameat(from_dir, from, to_dir, to), saved = errno;
    if (!done) record(RENAME, source, target, inode, 0, NULL, 0);
    FINISH(verdict);
    errno = saved;
    return done;
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    REAL(int, openat64, int, const char *, int, ...);
    char whole[PATH_MAX];
    if (!ARMED || !resolve(dir, path, whole)) return real_openat64(dir, path, flags, mode);
    struct stat found;
    int is_missing = stat(whole, &found) != 0;
    int changes = (flags & O_CREAT && is_missing) || (flags & O_TRUNC && !is_missing && found.st_size);
    if (reads ? changes || (!is_missing && S_ISDIR(found.st_mode)) : !changes)
        return real_openat64(dir, path, flags, mode);
    pthread_mutex_lock(&lock);
    int verdict = decide(reads ? OPEN : is_missing ? CREATE : TRUNCATE);
    if (verdict < 0) { pthread_mutex_unlock(&lock); return -1; }
    if (verdict == 1) die();
    int fd = real_openat64(dir, path, flags, mode), saved = errno;
    if (fd >= 0) record(reads ? OPEN : is_missing ? CREATE : TRUNCATE, whole, "", inode_of(whole), 0, NULL, 0);
    FINISH(verdict);
    errno = saved;
    return fd;
}

#define MODE mode_t mode = 0; if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE return open_at(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE return open_at(dir, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

static ssize_t get(int fd, void *data, size_t size, off_t offset, int has_offset) {
    REAL(ssize_t, read, int, void *, size_t);
    REAL(ssize_t, pread64, int, void *, size_t, off_t);
    char path[PATH_MAX];
    uint64_t inode;
    if (ARMED && reads && of_handle(fd, path, &inode)) {
        pthread_mutex_lock(&lock);
        int verdict = decide(READ);
        if (verdict >= 0) record(READ, path, "", inode, (uint64_t)offset, NULL, 0);
        pthread_mutex_unlock(&lock);
        if (verdict < 0) return -1;
    }
    return has_offset ? real_pread64(fd, data, size, offset) : real_read(fd, data, size);
}
ssize_t read(int fd, void *data, size_t size) { return get(fd, data, size, 0, 0); }
ssize_t pread(int fd, void *data, size_t size, off_t offset) { return get(fd, data, size, offset, 1); }
ssize_t pread64(int fd, void *data, size_t size, off_t offset) { return get(fd, data, size, offset, 1); }
