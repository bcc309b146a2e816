/* A Modbus server on libmodbus, unit 1.
 *
 *   modbus_server tcp PORT [TABLE:ADDRESS=VALUE,VALUE...]...
 *   modbus_server rtu PATH [TABLE:ADDRESS=VALUE,VALUE...]...
 *
 * TABLE is coil, discrete, input or holding; addresses 0 to 255 exist and are 0 unless set. `counter:ADDRESS=` makes an
 * input register that is one more at each answer. Prints "ready", then
 * "write TABLE ADDRESS VALUE..." for each write that it carried out. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <modbus.h>

enum { SIZE = 256, UNIT = 1 };

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

static int counter = -1;

static void set(modbus_mapping_t *map, char *spec)
{
    char *table = strtok(spec, ":");
    int address = atoi(strtok(NULL, "="));
    if (strcmp(table, "counter") == 0)
        counter = address;
    for (char *value; (value = strtok(NULL, ",")) && address < SIZE; address++) {
        int number = (int)strtol(value, NULL, 0);
        if (strcmp(table, "coil") == 0)
            map->tab_bits[address] = number != 0;
        else if (strcmp(table, "discrete") == 0)
            map->tab_input_bits[address] = number != 0;
        else if (strcmp(table, "input") == 0)
            map->tab_input_registers[address] = number;
        else if (strcmp(table, "holding") == 0)
            map->tab_registers[address] = number;
        else
            errno = EINVAL, fail(table);
    }
}

/* Tells of a write that was carried out. */
static void tell(const modbus_mapping_t *map, const uint8_t *pdu)
{
    int function = pdu[0], address = pdu[1] << 8 | pdu[2];
    int bits = function == 5 || function == 15;
    if (!bits && function != 6 && function != 16)
        return;
    int count = function > 6 ? pdu[3] << 8 | pdu[4] : 1;
    printf("write %s %d", bits ? "coil" : "holding", address);
    for (int i = address; i < address + count; i++)
        printf(" %d", bits ? map->tab_bits[i] : map->tab_registers[i]);
    printf("\n");
}

/* Answers until the client goes. */
static void serve(modbus_t *ctx, modbus_mapping_t *map)
{
    int header = modbus_get_header_length(ctx);
    for (;;) {
        uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
        int length = modbus_receive(ctx, query);
        if (length == 0)
            continue; /* for another unit */
        if (length < 0) {
            if (errno == EMBBADCRC || errno == ETIMEDOUT)
                continue;
            return;
        }
        if (query[header - 1] != UNIT && query[header - 1] != MODBUS_BROADCAST_ADDRESS) {
            modbus_reply_exception(ctx, query, MODBUS_EXCEPTION_GATEWAY_TARGET);
            continue;
        }
        if (counter >= 0)
            map->tab_input_registers[counter]++;
        /* An exception has a PDU of two bytes; on a serial line, the CRC follows. */
        int exception = header + 2 + (header == 1 ? 2 : 0);
        if (modbus_reply(ctx, query, length, map) > exception)
            tell(map, query + header);
    }
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 64;
    setvbuf(stdout, NULL, _IOLBF, 0);
    modbus_mapping_t *map = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE);
    if (!map)
        fail("mapping");
    for (int i = 3; i < argc; i++)
        set(map, argv[i]);

    if (strcmp(argv[1], "rtu") == 0) {
        modbus_t *ctx = modbus_new_rtu(argv[2], 9600, 'N', 8, 1);
        if (!ctx || modbus_set_slave(ctx, UNIT) != 0 || modbus_connect(ctx) != 0)
            fail(argv[2]);
        puts("ready");
        serve(ctx, map);
        fail("the line ended");
    }

    modbus_t *ctx = modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    int listener = ctx ? modbus_tcp_listen(ctx, 1) : -1;
    if (listener < 0)
        fail(argv[2]);
    puts("ready");
    for (;;) {
        if (modbus_tcp_accept(ctx, &listener) < 0)
            fail("accept");
        serve(ctx, map);
        modbus_close(ctx);
    }
}
