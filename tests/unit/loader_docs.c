/*
 * loader_docs.c - each example of docs/workflow.md is a file that loads.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/loader.h"

Test(loader, every_example_of_the_reference_loads)
{
    static struct pawl_load_errors errors;
    static char page[65536];
    FILE *file = fopen("docs/workflow.md", "r");
    cr_assert(ne(ptr, file, NULL), "run the tests from the top of the tree");
    size_t length = fread(page, 1, sizeof page - 1, file);
    fclose(file);
    page[length] = '\0';
    int examples = 0;
    for (char *at = page; (at = strstr(at, "```yaml\n")); examples++) {
        char *source = at + 8, *end = strstr(source, "\n```");
        struct pawl_plan *plan = NULL;
        cr_assert(ne(ptr, end, NULL));
        int error =
            pawl_workflow_load_memory("x.yaml", source, (size_t)(end + 1 - source), NULL, &plan, &errors);
        cr_expect(error == 0, "line %u: %s\n%.*s", errors.errors[0].line, errors.errors[0].text,
                  (int)(end - source), source);
        pawl_plan_close(plan);
        at = end;
    }
    cr_expect(eq(int, examples, 5));
}
