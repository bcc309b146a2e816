/* Faults of the disk and the clock, for a program that it is loaded into (LD_PRELOAD).
 *
 * The disk are the files in the folder that the program is started in. The test sets what goes wrong in the file
 * FAULTS_CONTROL, at any time (struct control). With FAULTS_LOG, all that is done to the files is appended to that file,
 * in its order (struct record, then the name, then the data): what a disk would have after a power cut can be told from it.
 * SQLite's -shm file is memory, and left out. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    int32_t write_error;   /* errno of writes, 0 for none; ENOSPC only where a file would grow */
    int32_t sync_error;    /* errno of syncs */
    int32_t sync_millis;   /* how long each sync takes */
    int32_t clock_state;   /* what adjtimex answers, -1 for the truth */
    int64_t clock_shift;   /* milliseconds that the wall clock is ahead */
    char boot[40];         /* which start of the computer it is, "" for the truth */
};

struct record {
    char kind;             /* write, truncate, sync, create, unlink, rename (data: the new name), folder's sync */
    uint8_t name_length;
    uint16_t zero;
    uint32_t length;
    uint64_t offset;       /* of a truncation: the new size */
    uint64_t inode;
};

enum { OTHER, FOLDER, FILE_IN_IT, MOST = 65536 };

static char place[PATH_MAX];
static size_t place_length;
static const struct control *control;
static int log_fd = -1;
static unsigned char watched[MOST];
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void begin(void)
{
    static const struct control nothing = {.clock_state = -1};
    if (!getcwd(place, sizeof place))
        abort();
    place_length = strlen(place);
    control = &nothing;
    const char *path = getenv("FAULTS_CONTROL");
    if (path) {
        int fd = REAL(open)(path, O_RDONLY);
        void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
            abort();
        control = map;
        REAL(close)(fd);
    }
    if ((path = getenv("FAULTS_LOG")) && (log_fd = REAL(open)(path, O_WRONLY | O_APPEND | O_CREAT, 0600)) < 0)
        abort();
}

/* The name of a file in the folder; NULL for any other. */
static const char *name_of(const char *path)
{
    if (!place_length || strncmp(path, place, place_length) != 0 || path[place_length] != '/')
        return NULL;
    const char *name = path + place_length + 1;
    size_t length = strlen(name);
    int memory = length > 4 && strcmp(name + length - 4, "-shm") == 0;
    return strchr(name, '/') || memory ? NULL : name;
}

static int kind_of(int fd)
{
    return fd >= 0 && fd < MOST ? watched[fd] : OTHER;
}

static void note(char kind, const char *name, uint64_t inode, uint64_t offset, const void *data, size_t length)
{
    if (log_fd < 0)
        return;
    struct record record = {kind, name ? strlen(name) : 0, 0, length, offset, inode};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)name, record.name_length}, {(void *)data, length}};
    if (REAL(writev)(log_fd, parts, 3) != (ssize_t)(sizeof record + record.name_length + length))
        abort();
}

static uint64_t inode_of(int fd, off_t *size)
{
    struct stat about;
    if (fstat(fd, &about) != 0)
        abort();
    if (size)
        *size = about.st_size;
    return about.st_ino;
}

/* A file with the id of the start of the computer that the test wants. */
static int boot_id(void)
{
    int fd = memfd_create("boot_id", MFD_CLOEXEC);
    if (fd < 0 || REAL(write)(fd, control->boot, strlen(control->boot)) < 0 || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    return fd;
}

static int opened(int (*how)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    if (control && control->boot[0] && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
        return boot_id();
    const char *name = name_of(path);
    int is_place = strcmp(path, place) == 0;
    if (!name && !is_place)
        return how(path, flags, mode);
    pthread_mutex_lock(&order);
    int made = name && (flags & O_CREAT) && access(path, F_OK) != 0;
    int fd = how(path, flags, mode);
    int error = errno;
    if (fd >= 0 && fd < MOST) {
        watched[fd] = name ? FILE_IN_IT : FOLDER;
        if (made)
            note('c', name, inode_of(fd, NULL), 0, NULL, 0);
        else if (name && (flags & O_TRUNC))
            note('t', NULL, inode_of(fd, NULL), 0, NULL, 0);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return fd;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list more;                                                                                                  \
        va_start(more, flags);                                                                                         \
        mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;                                                      \
        va_end(more);                                                                                                  \
        return opened(REAL(name), path, flags, mode);                                                                  \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    if (fd >= 0 && fd < MOST)
        watched[fd] = OTHER;
    return REAL(close)(fd);
}

/* What a write of `length` bytes to `offset` does instead; 0 for nothing. */
static int write_error(off_t size, off_t end)
{
    int error = control->write_error;
    return error == ENOSPC && end <= size ? 0 : error;
}

static ssize_t written(int fd, const void *data, size_t length, off_t offset)
{
    off_t size;
    pthread_mutex_lock(&order);
    uint64_t inode = inode_of(fd, &size);
    ssize_t done = -1;
    int error = write_error(size, offset + (off_t)length);
    if (!error) {
        done = REAL(pwrite64)(fd, data, length, offset);
        error = errno;
        if (done > 0)
            note('w', NULL, inode, offset, data, done);
    }
    pthread_mutex_unlock(&order);
    errno = error;
    return done;
}

#define PWRITE(name)                                                                                                   \
    ssize_t name(int fd, const void *data, size_t length, __typeof__(((struct stat *)0)->st_size) offset)              \
    {                                                                                                                  \
        return kind_of(fd) == FILE_IN_IT ? written(fd, data, length, offset) : REAL(name)(fd, data, length, offset);   \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t write(int fd, const void *data, size_t length)
{
    if (kind_of(fd) != FILE_IN_IT)
        return REAL(write)(fd, data, length);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = written(fd, data, length, offset);
    if (done > 0)
        lseek(fd, offset + done, SEEK_SET);
    return done;
}

#define FTRUNCATE(name)                                                                                                \
    int name(int fd, __typeof__(((struct stat *)0)->st_size) size)                                                     \
    {                                                                                                                  \
        if (kind_of(fd) != FILE_IN_IT)                                                                                 \
            return REAL(name)(fd, size);                                                                               \
        pthread_mutex_lock(&order);                                                                                    \
        int done = REAL(name)(fd, size), error = errno;                                                                \
        if (done == 0)                                                                                                 \
            note('t', NULL, inode_of(fd, NULL), size, NULL, 0);                                                        \
        pthread_mutex_unlock(&order);                                                                                  \
        errno = error;                                                                                                 \
        return done;                                                                                                   \
    }
FTRUNCATE(ftruncate)
FTRUNCATE(ftruncate64)

static int synced(int (*how)(int), int fd)
{
    int kind = kind_of(fd);
    if (kind == OTHER)
        return how(fd);
    if (control->sync_millis > 0) {
        struct timespec time = {control->sync_millis / 1000, control->sync_millis % 1000 * 1000000L};
        nanosleep(&time, NULL);
    }
    if (control->sync_error) {
        errno = control->sync_error;
        return -1;
    }
    /* With a log, the disk is what the log says. */
    if (log_fd < 0)
        return how(fd);
    pthread_mutex_lock(&order);
    note(kind == FOLDER ? 'f' : 's', NULL, inode_of(fd, NULL), 0, NULL, 0);
    pthread_mutex_unlock(&order);
    return 0;
}

int fsync(int fd)
{
    return synced(REAL(fsync), fd);
}

int fdatasync(int fd)
{
    return synced(REAL(fdatasync), fd);
}

int unlink(const char *path)
{
    const char *name = name_of(path);
    if (!name)
        return REAL(unlink)(path);
    pthread_mutex_lock(&order);
    int done = REAL(unlink)(path), error = errno;
    if (done == 0)
        note('u', name, 0, 0, NULL, 0);
    pthread_mutex_unlock(&order);
    errno = error;
    return done;
}

int rename(const char *from, const char *to)
{
    const char *old = name_of(from), *new = name_of(to);
    if (!old || !new)
        return REAL(rename)(from, to);
    pthread_mutex_lock(&order);
    int done = REAL(rename)(from, to), error = errno;
    if (done == 0)
        note('r', old, 0, 0, new, strlen(new));
    pthread_mutex_unlock(&order);
    errno = error;
    return done;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int done = REAL(clock_gettime)(clock, now);
    int64_t shift = control ? control->clock_shift : 0;
    if (done == 0 && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanos = now->tv_nsec + shift % 1000 * 1000000;
        now->tv_sec += shift / 1000 + (nanos < 0 ? -1 : nanos / 1000000000);
        now->tv_nsec = (nanos + 1000000000) % 1000000000;
    }
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec time;
    if (clock_gettime(CLOCK_REALTIME, &time) != 0)
        return -1;
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}

int adjtimex(struct timex *time)
{
    int state = REAL(adjtimex)(time);
    if (control->clock_state < 0)
        return state;
    time->status = control->clock_state == TIME_ERROR ? time->status | STA_UNSYNC : time->status & ~STA_UNSYNC;
    return control->clock_state;
}
