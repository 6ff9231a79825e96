#include "options.h"

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * What may stand after --stint=: a key with one of its words, the default first, or with a free value that its extended regular
 * expression matches as a whole. The daemon has the same table (daemon/core/options.ts).
 */
static const struct option {
    const char *key;
    const char *words[4];
    const char *form; /* of the free value, for people */
    const char *expression;
} known[] = {
    {.key = "net", .words = {"private", "host"}},
    {.key = "signal", .words = {"doorbell", "pass"}},
    {.key = "norollback", .form = "PATTERN[:PATTERN...]", .expression = "^(/[^:]*|[^/:]+)(:(/[^:]*|[^/:]+))*$"},
    {.key = "fallback", .words = {"hold", "start"}},
    {.key = "continue", .words = {"requeue", "submit"}},
    {.key = "every", .form = "never|auto|NUMBER[smhd]", .expression = "^(never|auto|[1-9][0-9]{0,3}[smhd])$"},
    {.key = "cron", .form = "MINUTE_HOUR_DAY_MONTH_WEEKDAY", .expression = "^([*]|[1-5]?[0-9](-[1-5]?[0-9])?)(/[1-9][0-9]?)?([+]([*]|[1-5]?[0-9](-[1-5]?[0-9])?)(/[1-9][0-9]?)?)*(_([*]|[1-5]?[0-9](-[1-5]?[0-9])?)(/[1-9][0-9]?)?([+]([*]|[1-5]?[0-9](-[1-5]?[0-9])?)(/[1-9][0-9]?)?)*){4}$"},
};

#define KNOWN_COUNT (sizeof known / sizeof *known)
#define WORDS_COUNT (sizeof known->words / sizeof *known->words)

static bool equals(const char *word, size_t length, const char *text)
{
    return strlen(text) == length && memcmp(word, text, length) == 0;
}

static const struct option *find_option(const char *key, size_t length)
{
    for (size_t i = 0; i < KNOWN_COUNT; i++)
        if (equals(key, length, known[i].key))
            return &known[i];
    return NULL;
}

static bool matches(const char *expression, const char *value, size_t length)
{
    char text[OPTIONS_MAX];
    regex_t compiled;
    if (length >= sizeof text || regcomp(&compiled, expression, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    memcpy(text, value, length);
    text[length] = '\0';
    bool found = regexec(&compiled, text, 0, NULL, 0) == 0;
    regfree(&compiled);
    return found;
}

static bool has_value(const struct option *option, const char *value, size_t length)
{
    if (option->expression != NULL)
        return matches(option->expression, value, length);
    for (size_t i = 0; i < WORDS_COUNT && option->words[i] != NULL; i++)
        if (equals(value, length, option->words[i]))
            return true;
    return false;
}

const char *options_known(void)
{
    static char text[OPTIONS_MAX];
    size_t at = 0;
    for (size_t i = 0; i < KNOWN_COUNT && at < sizeof text; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s=%s", i == 0 ? "" : ", ", known[i].key, known[i].form != NULL ? known[i].form : "");
        for (size_t w = 0; w < WORDS_COUNT && known[i].words[w] != NULL && at < sizeof text; w++)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", w == 0 ? "" : "|", known[i].words[w]);
    }
    return text;
}

/* What is wrong with one word, as the beginning of a sentence that ends with the word; NULL when nothing is. */
static const char *fault_of(const char *word, size_t length, unsigned *seen)
{
    const char *equal_sign = memchr(word, '=', length);
    size_t key_length = equal_sign != NULL ? (size_t)(equal_sign - word) : length;
    const struct option *option = find_option(word, key_length);
    if (option == NULL)
        return "does not know";
    if (equal_sign == NULL || !has_value(option, equal_sign + 1, length - key_length - 1))
        return "knows the key but not the value of";
    unsigned bit = 1U << (option - known);
    if ((*seen & bit) != 0)
        return "got a key twice:";
    *seen |= bit;
    return NULL;
}

const char *options_refusal(const char *text)
{
    static char refusal[2 * OPTIONS_MAX + 128];
    unsigned seen = 0;
    if (strlen(text) >= OPTIONS_MAX)
        return "what stands after --stint= is too long";
    for (const char *word = text; *word != '\0';) {
        size_t length = strcspn(word, ",");
        const char *fault = fault_of(word, length, &seen);
        if (fault != NULL) {
            snprintf(refusal, sizeof refusal, "--stint %s \"%.*s\"; known: %s", fault, (int)length, word, options_known());
            return refusal;
        }
        word += length + (word[length] == ',');
    }
    return NULL;
}

int options_member(const char *text)
{
    if (text == NULL || strspn(text, "0123456789") != strlen(text) || strlen(text) > 4)
        return 0;
    int member = atoi(text);
    return member < MEMBERS_MAX ? member : 0;
}
