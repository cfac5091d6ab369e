"""Parquet files that other people's writer made: `python make.py` with pyarrow 22 or later."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("name", pa.string())]))

prompts = pa.table(
    {
        "prompt": ["How do I bake bread?", "Where do swallows winter?\nBriefly.", "Ünïcödé 🙂"],
        "label": pa.array([True, False, True]),
        "topic": pa.array(["kitchen", "birds", None]).dictionary_encode(),
        "score": pa.array([0.5, 1.0, 2.0], pa.float32()),
        "number": pa.array([1, 2, 3], pa.int64()),
    }
)
pq.write_table(prompts, HERE / "prompts.parquet", compression="snappy", row_group_size=2)

chats = pa.table(
    {
        "messages": pa.array(
            [
                [{"role": "user", "content": "Hi", "name": None}],
                [
                    {"role": "system", "content": "Be kind.", "name": None},
                    {"role": "user", "content": "Who are you?", "name": "Ann"},
                    {"role": "assistant", "content": "A", "name": None},
                ],
            ],
            MESSAGES,
        )
    }
)
pq.write_table(chats, HERE / "chats.parquet", compression="none")
pq.write_table(prompts.slice(0, 1), HERE / "zstd.parquet", compression="zstd")
