/* The functions of Python's stable ABI that are used here, declared since its headers need not be installed. */

#ifndef PYTHON_ABI_H
#define PYTHON_ABI_H

#include <sys/types.h>

typedef struct _object PyObject;
typedef struct {
  const char *name;
  PyObject *(*function)(PyObject *, PyObject *const *, ssize_t);
  int flags;
  const char *doc;
} PyMethodDef;
#define METH_FASTCALL 0x80

extern PyObject _Py_NoneStruct;
#define Py_None (&_Py_NoneStruct)
extern PyObject PyLong_Type, PyFloat_Type, PyBool_Type, PyUnicode_Type, PyList_Type;
extern void Py_IncRef(PyObject *);
extern void Py_DecRef(PyObject *);
extern void *PyEval_SaveThread(void);
extern void PyEval_RestoreThread(void *);
extern void PyErr_Clear(void);
extern PyObject *PyErr_Occurred(void);
extern PyObject *PyObject_Type(PyObject *);
extern PyObject *PyObject_Str(PyObject *);
extern PyObject *PyObject_GetAttr(PyObject *, PyObject *);
extern int PyObject_IsTrue(PyObject *);
extern PyObject *PyCFunction_NewEx(PyMethodDef *, PyObject *, PyObject *);
extern PyObject *PyUnicode_InternFromString(const char *);
extern PyObject *PyUnicode_FromStringAndSize(const char *, ssize_t);
extern PyObject *PyUnicode_DecodeLatin1(const char *, ssize_t, const char *);
extern ssize_t PyUnicode_GetLength(PyObject *);
extern const char *PyUnicode_AsUTF8AndSize(PyObject *, ssize_t *);
extern PyObject *PyBytes_FromStringAndSize(const char *, ssize_t);
extern char *PyBytes_AsString(PyObject *);
extern int PyBytes_AsStringAndSize(PyObject *, char **, ssize_t *);
extern PyObject *PyDict_GetItemWithError(PyObject *, PyObject *);
extern PyObject *PyDict_New(void);
extern int PyDict_SetItem(PyObject *, PyObject *, PyObject *);
extern int PyDict_Next(PyObject *, ssize_t *, PyObject **, PyObject **);
extern ssize_t PyDict_Size(PyObject *);
extern PyObject *PyList_New(ssize_t);
extern int PyList_Append(PyObject *, PyObject *);
extern ssize_t PyList_Size(PyObject *);
extern PyObject *PyList_GetItem(PyObject *, ssize_t);
extern ssize_t PyTuple_Size(PyObject *);
extern PyObject *PyTuple_GetItem(PyObject *, ssize_t);
extern PyObject *PyTuple_New(ssize_t);
extern int PyTuple_SetItem(PyObject *, ssize_t, PyObject *);
extern PyObject *PyTuple_Pack(ssize_t, ...);
extern PyObject *PyBool_FromLong(long);
extern PyObject *PyLong_FromLong(long);
extern PyObject *PyLong_FromSsize_t(ssize_t);
extern PyObject *PyLong_FromVoidPtr(void *);
extern long long PyLong_AsLongLong(PyObject *);
extern double PyFloat_AsDouble(PyObject *);
extern ssize_t PyLong_AsSsize_t(PyObject *);
extern void *PyLong_AsVoidPtr(PyObject *);

#endif
