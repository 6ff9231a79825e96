/* Pieces of `stint-init files`; every one answers by answer() and leaves nothing open. */
#ifndef STINT_FILES_H
#define STINT_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

/* One answer: printf's text, ended by NUL as every word of the conversation is. */
__attribute__((format(printf, 1, 2))) void answer(const char *format, ...);

/* "failed" with errno in words. */
void answer_failed(void);

/* Writes all of it. */
bool write_at(int fd, const char *bytes, size_t length, off_t offset);

/* Where `size` bytes of `from` after `base` and `to` from its beginning on first differ, to a block; `size`: nowhere; -1: one cannot be read. */
off_t first_difference(int from, off_t base, int to, off_t size);

/* Makes `to` from `start` on what `from` is after `base`, up to `size` bytes of it; blocks that are equal are not written. */
bool make_equal(int from, off_t base, int to, off_t start, off_t size);

/* A file's times as before: what was put back is not newer than it was. A file of somebody else keeps its new times. */
void set_mtime(int fd, const char *nanoseconds);

/* The verbs, as files.c lists them. */
void files_save(int pid, int descriptor, const char *source, const char *path, int clone, const char *how);
void files_look(const char *path);
void files_cut(const char *path, off_t size, bool keep_lines, const char *mtime);
void files_rewrite(const char *path, int from, off_t base, off_t size, const char *mtime);
void files_create(const char *path, int from, off_t base, off_t size, mode_t mode, const char *mtime);
/* Gives a journal of an SQLite database another name if it changed after `since` (nanoseconds since 1970). */
void files_aside(const char *database, const char *journal, long long since);

/* Names in a directory of files of ours that changed after `since` (nanoseconds since 1970). */
void files_news(const char *directory, long long since);

/* Whether the user may make this name: in its directory, or in the nearest that is there. */
void files_names(const char *path);

#endif
