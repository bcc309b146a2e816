"""A Modbus server on pymodbus, unit 1.

    modbus_server.py tcp PORT [TABLE:ADDRESS=VALUE,VALUE...]...
    modbus_server.py rtu PATH [TABLE:ADDRESS=VALUE,VALUE...]...

TABLE is coil, discrete, input or holding; addresses 0 to 255 exist and are 0 unless set. Prints "ready", then
"write TABLE ADDRESS VALUE..." for each write that came. Other units get exception 4, on a serial line as well: it cannot
share one.
"""

import asyncio
import sys

from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

SIZE = 256
UNIT = 1


async def tell(function, _start, address, _count, _registers, written):
    """Tells of a write. (A write of one is followed by a read of it, with nothing written.)"""
    if function in (5, 15, 6, 16) and written is not None:
        table = "coil" if function in (5, 15) else "holding"
        print("write", table, address, *(int(value) for value in written), flush=True)


def device(specs):
    tables = {"coil": [False] * SIZE, "discrete": [False] * SIZE, "holding": [0] * SIZE, "input": [0] * SIZE}
    for spec in specs:
        where, values = spec.split("=")
        table, address = where.split(":")
        for at, value in enumerate(values.split(","), int(address)):
            tables[table][at] = bool(int(value, 0)) if table in ("coil", "discrete") else int(value, 0)
    blocks = tuple(
        [SimData(0, values=values, datatype=DataType.BITS if table in ("coil", "discrete") else DataType.REGISTERS)]
        for table, values in tables.items()
    )
    return SimDevice(UNIT, simdata=blocks, action=tell)


async def main(kind, where, *specs):
    if kind == "rtu":
        server = ModbusSerialServer(device(specs), port=where, baudrate=9600)
    else:
        server = ModbusTcpServer(device(specs), address=("127.0.0.1", int(where)))
    await server.serve_forever(background=True)
    print("ready", flush=True)
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
