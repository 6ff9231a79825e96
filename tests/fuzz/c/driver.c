/*
 * Stands in for libFuzzer where clang is missing: changes the recorded inputs at random, by a seed, without looking at what they reach.
 * usage: TARGET -runs=N -seed=N CORPUS_FILE...
 */
#include <stdbool.h>
#include <string.h>

#include "fuzz.h"

#define INPUT_MAX 5000
#define CORPUS_MAX 256

static struct input {
    uint8_t bytes[INPUT_MAX];
    size_t length;
} corpus[CORPUS_MAX], input;
static size_t corpus_count;

/* xorshift64*, Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016. */
static uint64_t state;
static uint32_t draw(uint32_t below)
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545f4914f6cdd1dULL) >> 32) % below;
}

static bool read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    if (file == NULL || corpus_count == CORPUS_MAX)
        return false;
    struct input *next = &corpus[corpus_count++];
    next->length = fread(next->bytes, 1, sizeof next->bytes, file);
    return fclose(file) == 0;
}

static void insert(size_t at, const uint8_t *bytes, size_t length)
{
    if (length > INPUT_MAX - input.length)
        return;
    memmove(input.bytes + at + length, input.bytes + at, input.length - at);
    memcpy(input.bytes + at, bytes, length);
    input.length += length;
}

static void change(void)
{
    static const char *const words[] = {"", " ", "=", ",", "%", "%00", "%ff", "%0", "\n", "-1", "99999999999999999999", "@", "/", ":", "job=", "cgroup=", "\0", "\x80\xff"};
    uint8_t copy[256];
    size_t at = draw((uint32_t)input.length + 1), left = input.length - at, part = left == 0 ? 0 : draw((uint32_t)(left < sizeof copy ? left : sizeof copy)) + 1;
    const char *word = words[draw(sizeof words / sizeof *words)];
    memcpy(copy, input.bytes + at, part);
    switch (draw(6)) {
    case 0:
        if (left > 0)
            input.bytes[at] = (uint8_t)draw(256);
        break;
    case 1:
        memmove(input.bytes + at, input.bytes + at + part, left - part);
        input.length -= part;
        break;
    case 2:
        insert(at, (const uint8_t *)word, *word == '\0' ? 1 : strlen(word));
        break;
    case 3:
        insert(at, copy, part);
        break;
    case 4:
        for (unsigned times = draw(64); times > 0; times--)
            insert(at, copy, part);
        break;
    default:
        input.length = at;
    }
}

int main(int argc, char **argv)
{
    long long runs = 10000;
    unsigned long long seed = 1;
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "-runs=", 6) == 0)
            runs = atoll(argv[i] + 6);
        else if (strncmp(argv[i], "-seed=", 6) == 0)
            seed = strtoull(argv[i] + 6, NULL, 10);
        else if (!read_file(argv[i])) {
            fprintf(stderr, "%s: cannot be read\n", argv[i]);
            return 2;
        }
    state = seed * 2 + 1;
    if (freopen("/dev/null", "w", stdout) == NULL || corpus_count == 0)
        return 2;
    for (long long run = 0; run < runs; run++) {
        input = corpus[draw((uint32_t)corpus_count)];
        for (unsigned changes = draw(8); changes > 0; changes--)
            change();
        (void)LLVMFuzzerTestOneInput(input.bytes, input.length);
    }
    fprintf(stderr, "%lld inputs\n", runs);
    return 0;
}
