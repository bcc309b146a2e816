/* A Modbus client on libmodbus.
 *
 *   modbus_client tcp PORT OP...
 *   modbus_client rtu PATH OP...
 *
 * OP is unit:N, read-coils:ADDRESS:COUNT, read-discrete:…, read-holding:…, read-input:…, write-coil:ADDRESS:VALUE,
 * write-coils:ADDRESS:VALUE,VALUE…, write-register:…, write-registers:…. Prints a line for each but unit: the values read,
 * "ok", "exception CODE" or "no answer". */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <modbus.h>

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

/* Prints what came of a call that read or wrote `count`. */
static void tell(int result, const char *values)
{
    if (result >= 0)
        puts(values);
    else if (errno > MODBUS_ENOBASE && errno <= EMBXGTAR)
        printf("exception %d\n", errno - MODBUS_ENOBASE);
    else if (errno == ETIMEDOUT)
        puts("no answer");
    else
        fail("request");
}

static void run(modbus_t *ctx, char *op)
{
    const char *name = strtok(op, ":");
    int address = atoi(strtok(NULL, ":"));
    if (strcmp(name, "unit") == 0) {
        modbus_set_slave(ctx, address);
        return;
    }

    uint16_t words[MODBUS_MAX_READ_BITS];
    uint8_t bits[MODBUS_MAX_READ_BITS];
    int count = 0, result;
    char text[16 * MODBUS_MAX_READ_BITS] = "ok";
    if (strncmp(name, "read-", 5) == 0) {
        count = atoi(strtok(NULL, ":"));
        int is_bits = 1;
        if (strcmp(name, "read-coils") == 0) {
            result = modbus_read_bits(ctx, address, count, bits);
        } else if (strcmp(name, "read-discrete") == 0) {
            result = modbus_read_input_bits(ctx, address, count, bits);
        } else {
            is_bits = 0;
            result = strcmp(name, "read-holding") == 0 ? modbus_read_registers(ctx, address, count, words)
                                                       : modbus_read_input_registers(ctx, address, count, words);
        }
        char *end = text;
        for (int i = 0; i < result; i++)
            end += sprintf(end, i ? " %d" : "%d", is_bits ? bits[i] : words[i]);
    } else {
        for (char *value; (value = strtok(NULL, ",")); count++)
            bits[count] = words[count] = (uint16_t)strtol(value, NULL, 0);
        if (strcmp(name, "write-coil") == 0)
            result = modbus_write_bit(ctx, address, bits[0]);
        else if (strcmp(name, "write-coils") == 0)
            result = modbus_write_bits(ctx, address, count, bits);
        else if (strcmp(name, "write-register") == 0)
            result = modbus_write_register(ctx, address, words[0]);
        else
            result = modbus_write_registers(ctx, address, count, words);
    }
    tell(result, text);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 64;
    modbus_t *ctx = strcmp(argv[1], "rtu") == 0 ? modbus_new_rtu(argv[2], 9600, 'N', 8, 1)
                                                : modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    if (!ctx || modbus_set_slave(ctx, 1) != 0 || modbus_connect(ctx) != 0)
        fail(argv[2]);
    modbus_set_response_timeout(ctx, 1, 0);
    for (int i = 3; i < argc; i++)
        run(ctx, argv[i]);
    modbus_close(ctx);
    modbus_free(ctx);
    return 0;
}
