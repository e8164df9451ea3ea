// A preloaded library that never lets writes to files of a certain name end, as a disk that does not answer, nor the looking for
// holes in those of another name. All files lie on disks then, by what it says, in a tmpfs too.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";

const SOURCE = `#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>
static void stall(int fd, const char *prefix) {
  char link[64], name[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, name, sizeof name - 1);
  if (length < 0) return;
  name[length] = 0;
  const char *base = strrchr(name, '/');
  if (!base || strncmp(base, prefix, strlen(prefix))) return;
  close(open("stall.log", O_CREAT | O_WRONLY, 0600));
  for (;;) pause();
}
#define WRITER(name, parameters, arguments)                     \\
  ssize_t name parameters {                                     \\
    static ssize_t(*next) parameters;                           \\
    if (!next) next = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name); \\
    stall(fd, "/stalled");                                      \\
    return next arguments;                                      \\
  }
WRITER(pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o))
WRITER(pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o))
WRITER(pwritev, (int fd, const struct iovec *v, int n, off_t o), (fd, v, n, o))
WRITER(pwritev64, (int fd, const struct iovec *v, int n, off64_t o), (fd, v, n, o))
#define SEEKER(name, type)                                      \\
  type name(int fd, type o, int whence) {                       \\
    static type(*next)(int, type, int);                         \\
    if (!next) next = (type(*)(int, type, int))dlsym(RTLD_NEXT, #name); \\
    if (whence == 3 || whence == 4) stall(fd, "/holes");        \\
    return next(fd, o, whence);                                 \\
  }
SEEKER(lseek, off_t)
SEEKER(lseek64, off64_t)
#define FACTS(name, type)                                       \\
  int name(const char *path, struct type *facts) {              \\
    int (*next)(const char *, struct type *) = dlsym(RTLD_NEXT, #name); \\
    int result = next(path, facts);                             \\
    if (result == 0) facts->f_type = 0xef53;                    \\
    return result;                                              \\
  }
FACTS(statfs, statfs)
FACTS(statfs64, statfs64)
`;

/** Why there is none here; undefined if it can be made. */
export function whyNoStall(): string | undefined {
  try {
    execFileSync("cc", ["--version"], { stdio: "ignore" });
    return process.platform === "linux" ? undefined : "the library is for Linux";
  } catch {
    return "there is no C compiler (cc)";
  }
}

/** Makes it in `directory`; returns the environment that loads it. */
export function stallingEnvironment(directory: string): NodeJS.ProcessEnv {
  const [source, library] = [join(directory, "stall.c"), join(directory, "stall.so")];
  writeFileSync(source, SOURCE);
  execFileSync("cc", ["-shared", "-fPIC", "-o", library, source, "-ldl"]);
  return { ...process.env, LD_PRELOAD: library };
}
