"""Made by graphc: the model @NAME@.

    import @NAME@
    model = @NAME@.Model(threads=2)
    outputs = model(x=array)                  # the first signature: a dict of NumPy arrays
    outputs = model["other"](x=array)         # another one

Strings are bytes in arrays of objects; inputs may be str too.

@LIBRARY@ lies beside this file.
"""

import ctypes
import pathlib

import numpy as np

_library = ctypes.CDLL(str(pathlib.Path(__file__).resolve().with_name("@LIBRARY@")))
_model = ctypes.byref(ctypes.c_char.in_dll(_library, "@NAME@_model"))
_size, _pointer = ctypes.c_size_t, ctypes.c_void_p

_DTYPES = {
    1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 5: np.int16, 6: np.int8, 7: np.object_, 8: np.complex64,
    9: np.int64, 10: np.bool_, 14: np.uint16, 17: np.uint16, 18: np.complex128, 19: np.float16, 22: np.uint32, 23: np.uint64,
}


class _Port(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
        ("dims", ctypes.POINTER(ctypes.c_int64)), ("element_bytes", _size),
    ]


class _Options(ctypes.Structure):
    _fields_ = [
        ("size", _size), ("threads", _size), ("parallel_for", _pointer), ("pool", _pointer), ("weights_path", ctypes.c_char_p),
        ("weights", _pointer), ("weights_bytes", _size), ("error", ctypes.c_char_p), ("error_bytes", _size),
        ("files", ctypes.POINTER(ctypes.c_char_p)), ("files_count", _size),
    ]


def _declare(name, result, *arguments):
    function = getattr(_library, name)
    function.restype, function.argtypes = result, arguments
    return function


class _String(ctypes.Structure):
    _fields_ = [("data", _pointer), ("size", _size)]


_function_count = _declare("graphc_function_count", _size, _pointer)
_function_name = _declare("graphc_function_name", ctypes.c_char_p, _pointer, _size)
_input_count = _declare("graphc_input_count", _size, _pointer, _size)
_output_count = _declare("graphc_output_count", _size, _pointer, _size)
_input = _declare("graphc_input", ctypes.c_int32, _pointer, _size, _size, ctypes.POINTER(_Port))
_output = _declare("graphc_output", ctypes.c_int32, _pointer, _size, _size, ctypes.POINTER(_Port))
_create = _declare("graphc_create", ctypes.c_int32, _pointer, ctypes.POINTER(_Options), ctypes.POINTER(_pointer))
_destroy = _declare("graphc_destroy", None, _pointer)
_reset = _declare("graphc_reset", ctypes.c_int32, _pointer)
_call_create = _declare("graphc_call_create", ctypes.c_int32, _pointer, _size, ctypes.POINTER(_pointer))
_call_destroy = _declare("graphc_call_destroy", None, _pointer)
_set_input = _declare("graphc_set_input", ctypes.c_int32, _pointer, _size, _pointer, ctypes.POINTER(ctypes.c_int64), _size)
_set_output = _declare("graphc_set_output", ctypes.c_int32, _pointer, _size, _pointer, _size)
_output_dims = _declare(
    "graphc_output_dims", ctypes.c_int32, _pointer, _size, ctypes.POINTER(ctypes.POINTER(ctypes.c_int64)), ctypes.POINTER(_size)
)
_output_data = _declare("graphc_output_data", _pointer, _pointer, _size)
_run = _declare("graphc_run", ctypes.c_int32, _pointer)
_error = _declare("graphc_error", ctypes.c_char_p, _pointer)


_FAILED_PRECONDITION = 9


class Error(RuntimeError):
    """A run failed; `status` is TensorFlow's code."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Function:
    """One signature. Calls of one `Function` are made by one thread at a time."""

    def __init__(self, model, index):
        self._model = model  # the instance must outlive its calls
        self.name = _function_name(_model, index).decode()
        self.inputs = [self._port(_input, index, k) for k in range(_input_count(_model, index))]
        self.outputs = [self._port(_output, index, k) for k in range(_output_count(_model, index))]
        self._ran_in_stages = False
        self._call = _pointer()
        status = _call_create(model._instance, index, ctypes.byref(self._call))
        if status:
            raise Error(status, f"no function {index}")

    @staticmethod
    def _port(query, function, index):
        """Name, type and shape; None for an open extent, and for the shape where the rank is open."""
        port = _Port()
        query(_model, function, index, ctypes.byref(port))
        shape = None if port.rank < 0 else tuple(None if d < 0 else d for d in port.dims[: port.rank])
        return port.name.decode(), np.dtype(_DTYPES[port.dtype]), shape

    def __del__(self):
        if getattr(self, "_call", None):
            _call_destroy(self._call)

    def _check(self, status):
        if status:
            raise Error(status, _error(self._call).decode())

    def __call__(self, *arrays, **named):
        """Runs the function on arrays, in order or by name; a dict of new arrays."""
        if len(arrays) > len(self.inputs):
            raise TypeError(f"{self.name} takes {len(self.inputs)} inputs, {len(arrays)} were given")
        named.update(zip((name for name, _, _ in self.inputs), arrays))
        held = []
        for k, (name, dtype, _) in enumerate(self.inputs):
            if name not in named:
                raise TypeError(f"{self.name} needs the input {name!r}")
            given = np.asarray(named.pop(name))
            if dtype == np.object_:
                strings = [s.encode() if isinstance(s, str) else bytes(s) for s in given.ravel().tolist()]
                array = (_String * len(strings))(*((ctypes.cast(s, _pointer), len(s)) for s in strings))
                held.append(strings)
                data = ctypes.addressof(array)
            elif given.dtype != dtype:
                raise TypeError(f"input {name!r} is {dtype}, {given.dtype} was given")
            else:
                array = np.ascontiguousarray(given).reshape(given.shape)
                data = array.ctypes.data
            held.append(array)
            dims = (ctypes.c_int64 * given.ndim)(*given.shape)
            self._check(_set_input(self._call, k, data, dims, given.ndim))
        if named:
            raise TypeError(f"{self.name} has no input {next(iter(named))!r}")
        if self._ran_in_stages:
            return self._run_in_stages()
        outputs = {}
        for k, (name, dtype, _) in enumerate(self.outputs):
            dims, rank = ctypes.POINTER(ctypes.c_int64)(), _size()
            status = _output_dims(self._call, k, ctypes.byref(dims), ctypes.byref(rank))
            if status == _FAILED_PRECONDITION:  # only a run tells
                self._ran_in_stages = True
                return self._run_in_stages()
            self._check(status)
            outputs[name] = np.empty(tuple(dims[: rank.value]), dtype)
        for k, array in enumerate(outputs.values()):
            self._check(_set_output(self._call, k, array.ctypes.data, array.nbytes))
        self._check(_run(self._call))
        return outputs

    def _run_in_stages(self):
        """Copies of the outputs, whose extents the run tells."""
        self._check(_run(self._call))
        outputs = {}
        for k, (name, dtype, _) in enumerate(self.outputs):
            dims, rank = ctypes.POINTER(ctypes.c_int64)(), _size()
            self._check(_output_dims(self._call, k, ctypes.byref(dims), ctypes.byref(rank)))
            array = outputs[name] = np.empty(tuple(dims[: rank.value]), dtype)
            data = _output_data(self._call, k)
            if dtype == np.object_:
                strings = ctypes.cast(data, ctypes.POINTER(_String))[: array.size]
                array.ravel()[:] = [ctypes.string_at(s.data, s.size) for s in strings]
            elif array.nbytes:
                ctypes.memmove(array.ctypes.data, data, array.nbytes)
        return outputs


class Model:
    """An instance of the model, with state of its own."""

    def __init__(self, threads=1, weights=None, files=()):
        """`weights`: the path of the file of weights, for a model that has one. `files`: folders in which the model may read and write."""
        message = ctypes.create_string_buffer(1000)
        options = _Options(size=ctypes.sizeof(_Options), threads=threads, error_bytes=len(message))
        options.error = ctypes.cast(message, ctypes.c_char_p)
        if weights is not None:
            options.weights_path = str(weights).encode()
        folders = [str(f).encode() for f in files]
        options.files, options.files_count = (ctypes.c_char_p * len(folders))(*folders), len(folders)
        self._instance = _pointer()
        status = _create(_model, ctypes.byref(options), ctypes.byref(self._instance))
        if status:
            raise Error(status, message.value.decode())
        functions = [Function(self, k) for k in range(_function_count(_model))]
        self.functions = {f.name: f for f in functions}
        self._first = functions[0] if functions else None

    def __del__(self):
        if getattr(self, "_instance", None):
            self.functions = self._first = None
            _destroy(self._instance)

    def __getitem__(self, name):
        return self.functions[name]

    def __call__(self, *arrays, **named):
        return self._first(*arrays, **named)

    def reset(self):
        """Gives every variable its first value again."""
        status = _reset(self._instance)
        if status:
            raise Error(status, "the model cannot be initialised")
