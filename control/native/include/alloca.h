/* wasm2c includes this and uses none of it here. */
#pragma once
