#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What may stand after --stint=, the default first; the daemon has the same table (daemon/core/options.ts). */
static const struct option {
    const char *key;
    const char *values[4];
} known[] = {
    {"net", {"private", "host"}},
    {"signal", {"doorbell", "pass"}},
    {"fallback", {"hold", "start"}},
    {"continue", {"requeue", "submit"}},
};

#define KNOWN_COUNT (sizeof known / sizeof *known)

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

static bool has_value(const struct option *option, const char *value, size_t length)
{
    for (size_t i = 0; i < sizeof option->values / sizeof *option->values && option->values[i] != NULL; i++)
        if (equals(value, length, option->values[i]))
            return true;
    return false;
}

const char *options_known(void)
{
    static char text[OPTIONS_MAX];
    size_t at = 0;
    for (size_t i = 0; i < KNOWN_COUNT && at < sizeof text; i++) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%s%s=", i == 0 ? "" : ", ", known[i].key);
        for (size_t v = 0; v < 4 && known[i].values[v] != NULL && at < sizeof text; v++)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", v == 0 ? "" : "|", known[i].values[v]);
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
