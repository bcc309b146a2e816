"""A Modbus client on pymodbus; called and answering just as modbus_client.c."""

import sys

from pymodbus.client import ModbusSerialClient, ModbusTcpClient
from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ExceptionResponse

kind, where, *ops = sys.argv[1:]
if kind == "rtu":
    client = ModbusSerialClient(where, baudrate=9600, timeout=1, retries=0)
else:
    client = ModbusTcpClient("127.0.0.1", port=int(where), timeout=1, retries=0)
assert client.connect(), f"cannot connect to {where}"

READS = {
    "read-coils": client.read_coils,
    "read-discrete": client.read_discrete_inputs,
    "read-holding": client.read_holding_registers,
    "read-input": client.read_input_registers,
}


def perform(op):
    name, address, *rest = op.split(":")
    address = int(address)
    if name in READS:
        count = int(rest[0])
        answer = READS[name](address, count=count, device_id=unit)
        if not answer.isError():
            # Bits come filled up to whole bytes.
            values = answer.registers if name in ("read-holding", "read-input") else answer.bits[:count]
            return " ".join(str(int(value)) for value in values)
    else:
        values = [int(value, 0) for value in rest[0].split(",")]
        if name == "write-coil":
            answer = client.write_coil(address, bool(values[0]), device_id=unit)
        elif name == "write-coils":
            answer = client.write_coils(address, [bool(value) for value in values], device_id=unit)
        elif name == "write-register":
            answer = client.write_register(address, values[0], device_id=unit)
        else:
            answer = client.write_registers(address, values, device_id=unit)
    return f"exception {answer.exception_code}" if isinstance(answer, ExceptionResponse) else "ok"


unit = 1
for op in ops:
    if op.startswith("unit:"):
        unit = int(op.removeprefix("unit:"))
        continue
    try:
        print(perform(op), flush=True)
    except ModbusIOException:
        print("no answer", flush=True)
        client.connect()
