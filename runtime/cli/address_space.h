/*
 * address_space.h - is there room in it for an allocator to begin?
 */
#ifndef PAWL_RUNTIME_CLI_ADDRESS_SPACE_H
#define PAWL_RUNTIME_CLI_ADDRESS_SPACE_H

/**
 * pawl_address_space_check - before the first allocation
 * @argc, @argv: the command's, for the form of the error (--json)
 *
 * Allocates nothing. Return: 0, or an exit code: stderr says why.
 */
int pawl_address_space_check(int argc, char **argv);

#endif
