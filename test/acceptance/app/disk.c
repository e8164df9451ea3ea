/* An unchanged C program: it knows files only. */
#include <emscripten.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int file = -1;
static unsigned char buffer[65536];

/* Emscripten 3.1.6 cuts the offsets of pread and pwrite to 32 bits; lseek takes 64. */
static int is_near(int block) { return block < (1 << 19); }

/* Opens the disk; its size in MiB, or a negative errno. */
EMSCRIPTEN_KEEPALIVE int begin(void) {
  struct stat facts;
  file = open("/disks/disk.img", O_RDWR);
  if (file < 0 || fstat(file, &facts) != 0) return -errno;
  if (lseek(file, 0, SEEK_END) != facts.st_size) return -1000;
  return (int)(facts.st_size >> 20);
}

/* Writes `bytes` bytes of `value` at a block of 4 KiB; what pwrite says, or a negative errno. */
EMSCRIPTEN_KEEPALIVE int put(int block, int bytes, int value) {
  memset(buffer, value, bytes);
  off_t at = (off_t)block << 12;
  if (!is_near(block) && lseek(file, at, SEEK_SET) != at) return -errno;
  ssize_t done = is_near(block) ? pwrite(file, buffer, bytes, at) : write(file, buffer, bytes);
  return done < 0 ? -errno : (int)done;
}

/* Reads there; the sum of the bytes, or a negative errno. */
EMSCRIPTEN_KEEPALIVE int get(int block, int bytes) {
  memset(buffer, 0xee, sizeof buffer);
  off_t at = (off_t)block << 12;
  if (!is_near(block) && lseek(file, at, SEEK_SET) != at) return -errno;
  ssize_t done = is_near(block) ? pread(file, buffer, bytes, at) : read(file, buffer, bytes);
  if (done < 0) return -errno;
  int sum = 0;
  for (int i = 0; i < done; i++) sum += buffer[i];
  return sum;
}

/* Reads 4 KiB there, and does nothing with them; what pread says. Below 2 GiB. */
EMSCRIPTEN_KEEPALIVE int take(int block) { return (int)pread(file, buffer, 4096, (off_t)block << 12); }

/* Writes 4 KiB there; what pwrite says. Below 2 GiB. */
EMSCRIPTEN_KEEPALIVE int give(int block) { return (int)pwrite(file, buffer, 4096, (off_t)block << 12); }

EMSCRIPTEN_KEEPALIVE int sync_disk(void) { return fsync(file) == 0 ? 0 : -errno; }
